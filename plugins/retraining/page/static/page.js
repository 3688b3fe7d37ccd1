// The theme is Airflow's switch, read from the page around this one; alone, the browser's own.
"use strict";
(() => {
  const here = document.documentElement;
  let around = null;
  try { if (window.parent !== window) around = window.parent.document.documentElement; } catch { around = null; }
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const paint = () => here.classList.toggle("dark", around ? around.classList.contains("dark") : system.matches);
  paint();
  if (around) new MutationObserver(paint).observe(around, { attributes: true, attributeFilter: ["class"] });
  else system.addEventListener("change", paint);
  document.addEventListener("DOMContentLoaded", () => {
    const { section, live } = document.querySelector("main").dataset;
    if (section) document.getElementById(section)?.scrollIntoView();
    if (live !== undefined) setInterval(() => document.hidden || location.reload(), 15000);
  });
})();
