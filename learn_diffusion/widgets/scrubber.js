// Turns each still contact sheet on the page (figure.ld-scrubber) into canvases above one slider.
//
// Where scripts do not run, the figure stays a picture. A script mounts every figure that is not mounted yet, not "its
// own": front ends move scripts about, so that "the element before this script" is not the same one everywhere.
// No element gets an id: two scrubbers, or the same one shown twice, cannot get in each other's way.

for (const root of document.querySelectorAll('figure.ld-scrubber:not([data-state])')) {
  root.dataset.state = 'loading';
  const sheet = root.querySelector('img');
  sheet.decode().then(
    () => mount(root, sheet, JSON.parse(root.dataset.scrubber)),
    () => { root.dataset.state = 'still'; }, // its alt text says more than black canvases would
  );
}

function mount(root, sheet, { alt, name, labels, start, playMs, columns, stride, panels }) {
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const last = labels.length - 1;

  // one canvas for each panel, under its title
  const canvases = panels.map(({ title, width, height, zoom }) => {
    const canvas = make('canvas', { width, height });
    canvas.style.width = `${width * zoom}px`;
    canvas.style.imageRendering = sheet.style.imageRendering;
    canvas.setAttribute('role', 'img');
    return canvas;
  });
  const views = panels.map(({ title }, k) => make('div', {}, ...(title ? [make('div', {}, title)] : []), canvases[k]));
  sheet.replaceWith(make('div', { className: 'ld-scrubber-views' }, ...views));

  // the controls: a range input brings its keys, touch and role along
  const button = make('button', { type: 'button' });
  const range = make('input', { type: 'range', min: 0, max: last, step: 1, value: start });
  const output = make('output');
  output.setAttribute('aria-live', 'off'); // the slider's own value text is read out already
  output.style.minWidth = `min(100%, ${Math.max(...labels.map((text) => text.length))}ch)`; // a steady slider
  // JupyterLab's command mode takes the arrow keys unless the focused element itself says no
  for (const control of [button, range]) control.dataset.lmSuppressShortcuts = 'true';
  root.querySelector('.ld-scrubber-controls').replaceChildren(button, make('label', {}, name, range), output);

  const show = (i) => {
    const left = (i % columns) * stride[0];
    const top = Math.floor(i / columns) * stride[1];
    panels.forEach(({ title, left: within, width, height }, k) => {
      const canvas = canvases[k];
      canvas.getContext('2d').drawImage(sheet, left + within, top, width, height, 0, 0, width, height);
      canvas.dataset.frame = i;
      canvas.setAttribute('aria-label', [alt, title, labels[i]].filter(Boolean).join(', '));
    });
    range.value = i;
    range.setAttribute('aria-valuetext', labels[i]);
    output.textContent = labels[i];
  };

  // Play runs to the last frame and stops. With reduced motion it is called Next: one press, one frame, nothing moves.
  const reduced = matchMedia('(prefers-reduced-motion: reduce)');
  let timer = null;
  const next = () => show((range.valueAsNumber + 1) % labels.length);
  const stop = () => {
    clearTimeout(timer);
    timer = null;
    button.textContent = reduced.matches ? 'Next' : 'Play';
  };
  const tick = () => {
    if (!root.isConnected || reduced.matches) return stop();
    next();
    if (range.valueAsNumber === last) stop();
    else timer = setTimeout(tick, playMs);
  };
  const play = () => {
    if (range.valueAsNumber === last) show(0);
    button.textContent = 'Pause';
    timer = setTimeout(tick, playMs);
  };
  button.onclick = () => {
    if (timer) return stop();
    if (!reduced.matches) return play();
    stop(); // the wish may be newer than the button's name
    next();
  };
  range.onpointerdown = stop;
  range.oninput = () => { stop(); show(range.valueAsNumber); };

  root.append(make('style', {}, STYLE));
  stop();
  show(start);
  root.dataset.state = 'ready';
}

const STYLE = `
.ld-scrubber-views { display: flex; flex-wrap: wrap; gap: .75em 1.5em; }
.ld-scrubber-views > div { max-width: 100%; }
.ld-scrubber canvas { display: block; max-width: 100%; image-rendering: pixelated; }
.ld-scrubber-controls { display: flex; flex-wrap: wrap; align-items: center; gap: .5em 1em; max-width: 44em;
  margin-top: .75em; }
.ld-scrubber label { display: flex; flex: 1 1 14em; align-items: center; gap: .75em; margin: 0; }
.ld-scrubber input { flex: 1; min-width: 0; height: 2em; margin: 0; accent-color: #2f7fd0; touch-action: pan-y; }
.ld-scrubber output { padding: 0; font-variant-numeric: tabular-nums; }
.ld-scrubber button { min-width: 5em; padding: .4em .8em; font: inherit; color: inherit; background: none;
  border: 1px solid currentColor; border-radius: 4px; cursor: pointer; touch-action: manipulation; }
.ld-scrubber :focus-visible { outline: 3px solid #2f7fd0; outline-offset: 3px; }
`;
