// A picture goes to the endpoint by way of Airflow, and its answer is shown. All that comes back is text.
"use strict";
(() => {
  const GRID = 8, PATCH = 2, SIDE = 224;  // of the map: cells of a side, cells a patch covers, pixels of the longer side
  const SMALL = 0.02;  // a score that moves by less says nothing of where the network looked
  const main = document.querySelector("main"), at = (id) => document.getElementById(id);
  if (!at("drop")) return;
  const address = (of) => `try?dag_id=${encodeURIComponent(main.dataset.dag)}${of === undefined ? "" : `&of=${of}`}`;
  const canvas = at("seen"), pen = canvas.getContext("2d");
  let turn = 0, bitmap = null, answer = null;

  const say = (text, isBad = false) => {
    at("nothing").hidden = true;
    at("state").textContent = text;
    at("state").className = isBad ? "bad" : "dim";
    at("state").scrollIntoView({ block: "nearest" });
  };

  const sure = (score) => (score >= 0.99995 ? "1.0000" : score.toFixed(4));

  async function ask(body, type, of) {
    let reply;
    try {
      reply = await fetch(address(of), { method: "POST", body, headers: { "Content-Type": type || "application/octet-stream" } });
    } catch { throw new Error("Airflow does not answer. Is it still running?"); }
    const told = await reply.json().catch(() => ({}));
    if (reply.ok) return told;
    if (reply.status === 401) throw new Error("You are no longer signed in. Load Airflow again, and sign in.");
    if (told.problem) throw new Error(told.problem);
    throw new Error(typeof told.detail === "string" ? told.detail : `Airflow answers with status ${reply.status}.`);
  }

  async function send(blob, truth = null) {
    const mine = ++turn;
    at("found").hidden = true;
    if (!blob.size) return say("That has no bytes.", true);
    if (blob.size > Number(main.dataset.most)) return say(`That has ${blob.size.toLocaleString("en")} bytes; ${Number(main.dataset.most).toLocaleString("en")} may be sent.`, true);
    say("Asking the endpoint …");
    const drawn = createImageBitmap(blob).catch(() => null);
    try {
      const told = await ask(blob, blob.type);
      const picture = await drawn;
      if (mine !== turn) return;
      [bitmap, answer] = [picture, told.answers[0]];
      say("");
      show(told, truth);
    } catch (error) { if (mine === turn) say(error.message, true); }
  }

  function show(told, truth) {
    const { label, score, top } = answer;
    paint();
    const verdict = truth === null ? "" : truth === label ? "That is what it is." : `It is ${truth}.`;
    const said = document.createElement("strong");
    said.textContent = label;
    at("said").replaceChildren(said, ` ${sure(score)}`);
    if (verdict) {
      const mark = document.createElement("span");
      mark.className = truth === label ? "up" : "down";
      mark.textContent = ` ${truth === label ? "✓" : "✗"} ${verdict}`;
      at("said").append(mark);
    }
    at("top").replaceChildren(...top.map((one) => {
      const line = document.createElement("li"), name = document.createElement("span"), bar = document.createElement("meter"), number = document.createElement("span");
      name.textContent = one.label;
      bar.value = one.score;
      bar.setAttribute("aria-hidden", "true");
      number.textContent = sure(one.score);
      line.append(name, bar, number);
      return line;
    }));
    const who = !told.model ? "The answer does not say which model gave it."
      : told.model === told.champion ? `Answered by ${told.model}, the champion's model.`
      : `Answered by ${told.model}, which is not the champion's model (${told.champion}).`;
    at("told").className = told.model && told.model !== told.champion ? "warned" : "dim";
    at("told").textContent = `${who} It took ${told.ms < 10 ? told.ms.toFixed(1) : told.ms.toFixed(0)} ms from Airflow's server and back.`;
    at("map").textContent = "";
    at("look").hidden = !bitmap;
    at("look").disabled = false;
    const patches = (GRID - PATCH + 1) ** 2 + 1;
    at("cost").textContent = bitmap ? `Asks about ${patches} copies of it, in ${Math.ceil(patches / Number(main.dataset.together))} requests.`
      : "This browser cannot draw it, so that no map can be made.";
    at("found").hidden = false;
    at("seen").scrollIntoView({ block: "nearest" });
  }

  // The picture as large as the square permits; grey below a map.
  function paint(heat = null) {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (!bitmap) return;
    const scale = Math.min(canvas.width / bitmap.width, canvas.height / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    const [x, y] = [(canvas.width - width) / 2, (canvas.height - height) / 2];
    pen.imageSmoothingEnabled = scale < 2;
    if (heat) pen.filter = "grayscale(1)";
    pen.drawImage(bitmap, x, y, width, height);
    pen.filter = "none";
    if (!heat) return;
    const small = new OffscreenCanvas(GRID, GRID), dots = small.getContext("2d"), most = Math.max(...heat);
    heat.forEach((value, place) => {
      dots.fillStyle = `rgba(255, 125, 0, ${0.85 * Math.max(0, value) / most})`;
      dots.fillRect(place % GRID, Math.floor(place / GRID), 1, 1);
    });
    pen.imageSmoothingEnabled = true;
    pen.drawImage(small, x, y, width, height);
  }

  const text64 = (blob) => new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(new Error("The picture cannot be read."));
    reader.readAsDataURL(blob);
  });

  // The picture as it is asked about for the map, then the same with a patch at each place.
  async function copies() {
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const width = Math.max(16, Math.round(bitmap.width * scale)), height = Math.max(16, Math.round(bitmap.height * scale));
    const sheet = new OffscreenCanvas(width, height), ink = sheet.getContext("2d", { willReadFrequently: true });
    ink.drawImage(bitmap, 0, 0, width, height);
    const plain = ink.getImageData(0, 0, width, height), mean = [0, 0, 0];
    for (let place = 0; place < plain.data.length; place += 4) for (const band of [0, 1, 2]) mean[band] += plain.data[place + band];
    const grey = `rgb(${mean.map((sum) => Math.round(4 * sum / plain.data.length)).join(",")})`;
    const made = [await text64(await sheet.convertToBlob({ type: "image/png" }))];
    const edge = (place, size) => Math.round(place * size / GRID);
    for (let row = 0; row <= GRID - PATCH; row++) for (let column = 0; column <= GRID - PATCH; column++) {
      ink.putImageData(plain, 0, 0);
      ink.fillStyle = grey;
      const [x, y] = [edge(column, width), edge(row, height)];
      ink.fillRect(x, y, edge(column + PATCH, width) - x, edge(row + PATCH, height) - y);
      made.push(await text64(await sheet.convertToBlob({ type: "image/png" })));
    }
    return made;
  }

  async function look() {
    const mine = turn, { index, label } = answer, together = Number(main.dataset.together);
    at("look").disabled = true;
    try {
      const pictures = await copies(), scores = [], models = new Set();
      for (let first = 0; first < pictures.length; first += together) {
        at("map").textContent = `Asked about ${first} of ${pictures.length} …`;
        const told = await ask(JSON.stringify({ instances: pictures.slice(first, first + together) }), "application/json", index);
        if (mine !== turn) return;
        scores.push(...told.answers.map((one) => one.of));
        models.add(told.model);
      }
      if (models.size > 1) throw new Error("Two models answered: the endpoint is being changed. Try again when it has settled.");
      if (scores.some((one) => typeof one !== "number")) throw new Error("The endpoint does not tell the score of every class, so that no map can be made.");
      draw(scores, label);
    } catch (error) {
      if (mine === turn) { at("map").textContent = error.message; at("look").disabled = false; }
    }
  }

  function draw([whole, ...covered], label) {
    const places = GRID - PATCH + 1, heat = Array(GRID * GRID).fill(0), times = Array(GRID * GRID).fill(0);
    covered.forEach((score, place) => {
      for (let row = 0; row < PATCH; row++) for (let column = 0; column < PATCH; column++) {
        const cell = (Math.floor(place / places) + row) * GRID + place % places + column;
        heat[cell] += whole - score;
        times[cell] += 1;
      }
    });
    const lowest = Math.min(...covered), most = whole - lowest;
    if (most < SMALL) {
      at("map").textContent = `No single spot decides: wherever a patch covers it, the score of ${label} stays within ${SMALL} of ${sure(whole)}.`;
      return;
    }
    paint(heat.map((sum, place) => sum / times[place]));
    at("map").textContent = `Orange is what the answer ${label} hangs on: where a patch of the picture's mean colour, a quarter of its sides, lowers the score; at the strongest spot from ${sure(whole)} to ${sure(lowest)}. (Occlusion, at ${SIDE} pixels at most. It tells what matters to the score, not why.)`;
  }

  const take = (files) => {
    const blob = [...(files ?? [])].find((one) => one.type.startsWith("image/")) ?? files?.[0];
    if (blob && !at("file").disabled) send(blob);
  };
  at("file").addEventListener("change", (event) => { take(event.target.files); event.target.value = ""; });
  at("look").addEventListener("click", look);
  document.addEventListener("paste", (event) => take(event.clipboardData?.files));
  document.addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
  document.addEventListener("drop", (event) => { event.preventDefault(); at("drop").classList.remove("over"); take(event.dataTransfer?.files); });
  document.querySelectorAll(".picks button").forEach((button) => button.addEventListener("click", async () => {
    document.querySelectorAll(".picks button").forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
    const mine = ++turn;
    say("Fetching the picture …");
    const reply = await fetch(`try/image?dag_id=${encodeURIComponent(main.dataset.dag)}&name=${encodeURIComponent(button.dataset.name)}`).catch(() => null);
    if (mine !== turn) return;
    if (!reply?.ok) return say("The test image is no longer in the store, or it does not answer.", true);
    const blob = await reply.blob();
    if (mine === turn) send(blob, button.dataset.class);
  }));
})();
