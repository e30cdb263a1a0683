# shellcheck shell=bash
# Sourced: programs of the operating system, installed by apt where they are missing and the user is root.

oldest_java=17 # Apache Kafka 4 (KIP-1013)
oldest_go=21   # Go 1.21 is the first that fetches by itself the newer toolchain that versitygw asks for

# Whether this user can install packages here.
can_install() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null
}

# offered PACKAGE: prints the version that apt would install, nothing if it knows none.
offered() {
    apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p'
}

# refresh PACKAGE: fetches the lists of packages if they do not name this one.
refresh() {
    [ -n "$(offered "$1")" ] || apt-get update -qq >&2
}

apt_install() {
    say "installing $*"
    refresh "$1"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# java_release: prints 17 for Java 17.0.15, 0 if there is no Java.
java_release() {
    local java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
    if command -v "$java" >/dev/null; then
        "$java" -version 2>&1 | sed -nE 's/.*version "(1\.)?([0-9]+).*/\2/p' | head -n 1
    else
        echo 0
    fi
}

need_java() {
    local release
    release=$(java_release)
    if [ "${release:-0}" -ge "$oldest_java" ]; then
        return
    fi
    can_install || fail "the embedded Kafka needs Java $oldest_java or newer, found: $release. Install it with" \
        "'sudo apt-get install openjdk-17-jdk-headless' (Debian, Ubuntu) or 'brew install openjdk@17' (macOS)."
    apt_install openjdk-17-jdk-headless
}

need_maven() {
    if command -v mvn >/dev/null; then
        return
    fi
    can_install || fail "Maven is needed once, to fetch Apache Kafka. Install it with" \
        "'sudo apt-get install maven' (Debian, Ubuntu) or 'brew install maven' (macOS)."
    apt_install maven
}

# go_will_do: whether there is a Go that can build versitygw.
go_will_do() {
    local minor
    command -v go >/dev/null || return
    minor=$(go env GOVERSION | sed -nE 's/^go1\.([0-9]+).*/\1/p')
    [ "${minor:-0}" -ge "$oldest_go" ]
}

# want_go: installs Go if apt has one that will do. The set-up goes on without it.
want_go() {
    local minor
    can_install || return 0
    refresh golang-go
    minor=$(offered golang-go | sed -nE 's/^([0-9]+:)?1\.([0-9]+).*/\2/p')
    if [ "${minor:-0}" -ge "$oldest_go" ]; then
        apt_install golang-go
    fi
}

# want_chromium: installs the browser that the console is tested in. Without it those tests are skipped, and say so.
want_chromium() {
    if command -v chromium >/dev/null; then
        return
    fi
    can_install || return 0
    refresh chromium
    if [ -n "$(offered chromium)" ]; then
        apt_install chromium || say "no chromium: the console is not tested in a browser here"
    fi
}

# want_sshd: installs OpenSSH's server, from which tests fetch files. Without it those tests are skipped, and say so.
want_sshd() {
    if [ -x /usr/sbin/sshd ]; then
        return
    fi
    can_install || return 0
    if [ -d /run/systemd/system ]; then
        say "no OpenSSH server here: tests of headrace fetch against it are skipped. Debian's package would also start" \
            "one for everybody, so it is left to you: 'apt-get install openssh-server'"
        return
    fi
    refresh openssh-server
    if [ -n "$(offered openssh-server)" ]; then
        apt_install openssh-server || say "no OpenSSH server: fetching is tested against asyncssh alone"
    fi
}
