// Upgrade a contact sheet to a slider. `root` holds the <img>; `c` says how the sheet is cut.
(function (root, c) {
  const sheet = root.querySelector("img");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const make = (tag, attributes, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  };

  const views = c.panels.map((p) => {
    const canvas = make("canvas", { width: p.w, height: c.h });
    canvas.style.width = p.w * c.zoom + "px";
    canvas.setAttribute("role", "img");
    const title = p.title ? [make("figcaption", { textContent: p.title })] : [];
    return { ...p, canvas, box: make("figure", {}, ...title, canvas) };
  });

  const id = "ld" + Math.random().toString(36).slice(2); // an output may stand twice on a page
  const slider = make("input", { id, type: "range", min: 0, max: c.labels.length - 1, step: 1, value: c.start });
  const label = make("output");
  label.setAttribute("for", id);
  label.setAttribute("aria-live", "off"); // the slider itself reads the label out
  const button = make("button", { type: "button" });
  // JupyterLab's command mode takes the arrow keys unless the element itself says no
  for (const control of [slider, button]) control.dataset.lmSuppressShortcuts = "true";

  function draw() {
    const i = +slider.value, text = c.labels[i];
    const left = (i % c.columns) * (c.w + c.gap), top = Math.floor(i / c.columns) * (c.h + c.gap);
    for (const v of views) {
      v.canvas.getContext("2d").drawImage(sheet, left + v.x, top, v.w, c.h, 0, 0, v.w, c.h);
      v.canvas.dataset.frame = i;
      v.canvas.setAttribute("aria-label", [c.alt, v.title, text].filter(Boolean).join(" — "));
    }
    label.textContent = text;
    slider.setAttribute("aria-valuetext", text);
  }

  let timer = 0;
  function stop() {
    clearTimeout(timer);
    timer = 0;
    button.textContent = still ? "Next" : "Play";
  }
  function advance() {
    slider.value = +slider.value + 1;
    draw();
    if (still || +slider.value >= c.labels.length - 1 || !root.isConnected) stop();
    else timer = setTimeout(advance, c.delay);
  }
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (+slider.value >= c.labels.length - 1) slider.value = -1; // from the end, start again
    button.textContent = still ? "Next" : "Pause";
    advance(); // where less motion is asked for, one press is one frame
  });
  slider.addEventListener("input", () => { stop(); draw(); });

  function upgrade() {
    stop();
    draw();
    sheet.hidden = true;
    sheet.after(
      make("div", { className: "ld-views" }, ...views.map((v) => v.box)),
      make("div", { className: "ld-row" }, button, make("label", { htmlFor: id, textContent: c.name }), slider, label),
    );
    root.dataset.ready = "1";
  }
  if (!root.dataset.ready) sheet.decode().then(upgrade, () => {}); // a sheet that fails to load stays a picture
})
