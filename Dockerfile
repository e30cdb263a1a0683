# One image for every service and command of Headrace: docker build -t headrace .
# The base is an argument, so that a registry of your own, or another Python, can be named; it must bring python3 >= 3.11.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
# What changes rarely comes first: a change of the code fetches nothing again.
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /build && /build/bin/pip install --quiet --require-hashes --requirement requirements-build.lock \
    && python3 -m venv --without-pip /opt/headrace \
    && python3 -m venv /fetch && /fetch/bin/pip --python /opt/headrace/bin/python \
        install --quiet --require-hashes --only-binary :all: --requirement requirements.lock
COPY . .
RUN /build/bin/hatchling build --target wheel --directory /wheel \
    && /fetch/bin/pip --python /opt/headrace/bin/python install --quiet --no-deps /wheel/*.whl
# Of Amazon's four hundred services, those that an object store and its credentials need; and no sources of C modules.
RUN cd "$(/opt/headrace/bin/python -c 'import site; print(site.getsitepackages()[0])')" \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} + \
    && find . -name '*.c' -delete -o -name '*.pyx' -delete

FROM ${PYTHON_IMAGE}
# Group 0 may write what the user may: so any other user id works as well, such as that of who owns the secrets.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /var/lib/headrace --shell /usr/sbin/nologin headrace \
    && mkdir -p /etc/headrace /var/lib/headrace /var/spool/headrace /data/incoming /data/rebuilt \
    && chown -R 10001:0 /var/lib/headrace /var/spool/headrace /data \
    && chmod -R g=u /var/lib/headrace /var/spool/headrace /data
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/headrace \
    HEADRACE_STATE=/var/lib/headrace \
    HEADRACE_CACHE=/tmp/headrace \
    HEADRACE_LOG__FORMAT=json
USER 10001:0
WORKDIR /var/lib/headrace
ENTRYPOINT ["headrace"]
CMD ["--help"]
