"use strict";
// What pages cannot do by themselves; all of them work without it, but for the charts and for renewing themselves.

(() => {
  const MOST_GROUPS = 8;
  const COLOURS = ["#2680c2", "#c65d21", "#3f9142", "#b44bb5", "#ad8b00", "#d64545", "#147d92", "#7b8794"];

  // The printed address holds the token behind "#", which browsers neither send nor log.
  function logIn() {
    const login = document.getElementById("login");
    if (!login || location.hash.length < 2) return;
    document.getElementById("token").value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
    login.requestSubmit();
  }
  logIn();
  addEventListener("hashchange", logIn);

  // A part that renews itself must not take away what the keyboard is on.
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    if (target !== document.body && target.contains(document.activeElement)) event.detail.shouldSwap = false;
  });

  const charts = document.getElementById("charts");
  if (!charts || typeof uPlot === "undefined") return;

  const plots = new Map();
  let shape = "";

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

  function options(element, groups) {
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    return {
      width: Math.max(200, element.clientWidth),
      height: element.clientHeight || 180,
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, high || 0) * 1.1] } },
      axes: [{ ...axis, space: 80, values: (_plot, ticks) => ticks.map(clock) }, { ...axis, size: 62, values: (_plot, ticks) => ticks.map((tick) => tick.toLocaleString("en")) }],
      series: [{}, ...groups.map((group, index) => ({ label: group.name, stroke: COLOURS[index], width: 2, points: { show: false } }))],
    };
  }

  function showLegend(groups, left) {
    charts.querySelector(".legend").replaceChildren(
      ...groups.map((group, index) => {
        const item = document.createElement("li");
        const swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.backgroundColor = COLOURS[index];
        item.append(swatch, group.name);
        return item;
      }),
      ...(left > 0 ? [Object.assign(document.createElement("li"), { textContent: `and ${left} more, not drawn` })] : []),
    );
  }

  function draw(history) {
    const groups = history.groups.slice(0, MOST_GROUPS);
    const now = JSON.stringify(groups.map((group) => group.name));
    if (now !== shape) {
      shape = now;
      plots.forEach((plot) => plot.destroy());
      plots.clear();
      showLegend(groups, history.groups.length - groups.length);
    }
    for (const element of charts.querySelectorAll(".chart")) {
      const data = [history.times, ...groups.map((group) => group[element.dataset.values])];
      if (plots.has(element)) plots.get(element).setData(data);
      else plots.set(element, new uPlot(options(element, groups), data, element));
    }
  }

  async function renew() {
    if (document.hidden) return;
    try {
      const answer = await fetch(charts.dataset.source, { redirect: "error" });
      if (answer.ok) draw(await answer.json());
    } catch {
      // The console is away, or the login has ended: the tables say so.
    }
  }

  addEventListener("resize", () => plots.forEach((plot, element) => plot.setSize({ width: element.clientWidth, height: 180 })));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { shape = ""; renew(); });
  renew();
  setInterval(renew, 2000);
})();
