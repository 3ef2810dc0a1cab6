// Turns each still picture on the page (figure.ld-painter) into a canvas to paint a mask on, by mouse, finger or keys.
//
// What is painted goes, as hexadecimal digits, into the text box of the ipywidget that carries the figure's key as a
// class: the box tells the kernel, as if the reader had typed. Without it the painting is kept, and sent when it is there.

for (const root of document.querySelectorAll('figure.ld-painter:not([data-state])')) {
  root.dataset.state = 'loading';
  const picture = root.querySelector('img');
  picture.decode().then(
    () => mount(root, picture, JSON.parse(root.dataset.painter)),
    () => { root.dataset.state = 'still'; },
  );
}

function mount(root, picture, { key, alt, width, height, zoom, brush, mask }) {
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const canvas = make('canvas', { width: width * zoom, height: height * zoom, tabIndex: 0 });
  canvas.setAttribute('role', 'application');
  const erase = make('input', { type: 'checkbox' });
  const clear = make('button', { type: 'button' }, 'Clear');
  const output = make('output');
  const copy = make('input', { readOnly: true, size: 12, onfocus: () => copy.select() });
  const byHand = make('label', { hidden: true },
    ' If the next cell does not change, its box called mask is on a page of its own: copy this into it. ', copy);
  for (const control of [canvas, erase, clear, copy]) control.dataset.lmSuppressShortcuts = 'true';
  picture.replaceWith(canvas);
  root.querySelector('.ld-painter-controls').replaceChildren(clear, make('label', {}, erase, ' erase'), output, byHand);

  const painted = Uint8Array.from([...mask].flatMap((digit) => [8, 4, 2, 1].map((bit) => +!!(parseInt(digit, 16) & bit))));
  const at = { x: width >> 1, y: height >> 1, shown: false }; // where the keyboard's brush is

  const show = () => {
    const g = canvas.getContext('2d');
    g.imageSmoothingEnabled = false;
    g.drawImage(picture, 0, 0, width * zoom, height * zoom);
    g.fillStyle = 'rgba(255, 0, 170, 0.62)';
    for (let i = 0; i < width * height; i++) {
      if (painted[i]) g.fillRect((i % width) * zoom, Math.floor(i / width) * zoom, zoom, zoom);
    }
    if (at.shown) {
      g.lineWidth = 2;
      for (const [colour, gap] of [['black', 1], ['white', 3]]) {
        g.strokeStyle = colour;
        g.strokeRect((at.x - brush) * zoom + gap, (at.y - brush) * zoom + gap,
          (2 * brush + 1) * zoom - 2 * gap, (2 * brush + 1) * zoom - 2 * gap);
      }
    }
    const share = Math.round((100 * painted.reduce((a, b) => a + b, 0)) / painted.length);
    if (canvas.dataset.painted !== `${share}`) output.textContent = `${share} % painted`;
    canvas.dataset.painted = share;
    canvas.setAttribute('aria-label', `${alt} ${share} % painted. Brush at column ${at.x + 1}, row ${at.y + 1}.`);
  };

  const dab = (x, y) => {
    for (let v = Math.max(0, y - brush); v <= Math.min(height - 1, y + brush); v++) {
      for (let u = Math.max(0, x - brush); u <= Math.min(width - 1, x + brush); u++) painted[v * width + u] = +!erase.checked;
    }
  };

  let later;
  const send = () => {
    clearTimeout(later);
    let digits = '';
    for (let i = 0; i < painted.length; i += 4) {
      digits += (8 * painted[i] + 4 * painted[i + 1] + 2 * painted[i + 2] + painted[i + 3]).toString(16);
    }
    const boxes = document.querySelectorAll(`.${key} input`);
    byHand.hidden = boxes.length || window.parent === window; // as in Colab: the box may be in another document
    if (copy.value !== digits) copy.value = digits;
    const next = !boxes.length && byHand.hidden ? '; in a notebook, run the next cell to use it' : '';
    const words = `${canvas.dataset.painted} % painted${next}`;
    if (output.textContent !== words) output.textContent = words;
    if (!boxes.length && root.isConnected) later = setTimeout(send, 500);
    for (const box of boxes) {
      box.value = digits;
      for (const event of ['input', 'change']) box.dispatchEvent(new Event(event, { bubbles: true }));
    }
  };

  let before = null; // the pixel of the last pointer event while the button is down
  const pointer = (event) => {
    const box = canvas.getBoundingClientRect();
    return {
      x: Math.floor(((event.clientX - box.left) / box.width) * width),
      y: Math.floor(((event.clientY - box.top) / box.height) * height),
    };
  };
  canvas.onpointerdown = (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    before = pointer(event);
    dab(before.x, before.y);
    show();
  };
  canvas.onpointermove = (event) => {
    if (!before || !event.buttons) return;
    const now = pointer(event);
    const steps = Math.max(1, Math.abs(now.x - before.x), Math.abs(now.y - before.y));
    for (let i = 1; i <= steps; i++) {
      dab(Math.round(before.x + ((now.x - before.x) * i) / steps), Math.round(before.y + ((now.y - before.y) * i) / steps));
    }
    before = now;
    show();
  };
  canvas.onpointerup = canvas.onpointercancel = () => {
    if (before) send();
    before = null;
  };

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const wipe = () => { painted.fill(0); show(); send(); };
  let due = false; // a dab by Space that Python has not heard of
  const heard = () => { if (due) send(); due = false; };
  canvas.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const move = moves[event.key];
    if (move) {
      at.x = Math.min(width - 1, Math.max(0, at.x + move[0]));
      at.y = Math.min(height - 1, Math.max(0, at.y + move[1]));
    } else if (event.key === ' ') dab(at.x, at.y), due = true;
    else if (event.key === 'Delete' || event.key === 'Backspace') return event.preventDefault(), event.stopPropagation(), wipe();
    else return;
    event.preventDefault();
    event.stopPropagation();
    show();
  };
  canvas.onkeyup = (event) => { if (event.key === ' ') heard(); };
  canvas.onfocus = () => { at.shown = canvas.matches(':focus-visible'); show(); };
  canvas.onblur = () => { at.shown = false; heard(); show(); };
  clear.onclick = wipe;

  root.append(make('style', {}, STYLE));
  show();
  root.dataset.state = 'ready';
}

const STYLE = `
.ld-painter canvas { display: block; max-width: 100%; touch-action: none; cursor: crosshair; }
.ld-painter-controls { display: flex; flex-wrap: wrap; align-items: center; gap: .5em 1.5em; margin-top: .75em; }
.ld-painter-controls button { min-width: 5em; padding: .4em .8em; font: inherit; color: inherit; background: none;
  border: 1px solid currentColor; border-radius: 4px; cursor: pointer; }
.ld-painter :focus-visible { outline: 3px solid #2f7fd0; outline-offset: 3px; }
`;
