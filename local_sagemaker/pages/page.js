// Takes in what has changed since the page was loaded, without a flicker and without losing one's place.
let main = document.querySelector("main");
async function refresh() {
  const reading = String(getSelection()).length > 0;
  if (!document.hidden && !reading) {
    try {
      const answer = await fetch(location.href);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (answer.ok && next && next.innerHTML !== main.innerHTML) {
        const scrolls = [...main.querySelectorAll("pre, .scroll")].map((e) => [e.scrollTop, e.scrollLeft, e.scrollTop + e.clientHeight >= e.scrollHeight - 4]);
        const open = [...main.querySelectorAll("details")].map((e) => e.open);
        main.replaceWith(next);
        main = next;
        main.querySelectorAll("details").forEach((e, i) => { e.open = open[i] ?? false; });
        main.querySelectorAll("pre, .scroll").forEach((e, i) => {
          const [top, left, atEnd] = scrolls[i] ?? [0, 0, true];
          e.scrollTo(left, atEnd && e.className === "log" ? e.scrollHeight : top);
        });
      }
      document.body.classList.remove("away");
    } catch {
      document.body.classList.add("away");
    }
  }
  setTimeout(refresh, 1000 * main.dataset.refresh);
}
main.querySelectorAll("pre.log").forEach((e) => e.scrollTo(0, e.scrollHeight));
setTimeout(refresh, 1000 * main.dataset.refresh);
