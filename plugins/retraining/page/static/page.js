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
    const slider = document.getElementById("threshold");
    if (slider) {
      const { sentences, places, top, floor } = slider.dataset, said = JSON.parse(sentences), x = JSON.parse(places);
      const show = () => {
        document.getElementById("threshold-says").textContent = said[slider.value];
        document.getElementById("threshold-at").setAttribute("d", `M${x[slider.value]} ${top}V${floor}`);
        slider.setAttribute("aria-valuetext", said[slider.value]);
      };
      slider.addEventListener("input", show);
      slider.parentElement.hidden = false;
      show();
    }
    // Whoever has opened something is looking at it.
    const reading = () => document.hidden || document.querySelector("details[open]");
    if (live !== undefined) setInterval(() => reading() || location.reload(), 15000);
  });
})();
