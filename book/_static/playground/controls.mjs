// What all parts of the playground are built of.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('aria-')) element.setAttribute(name, value); // as properties only the newest browsers know them
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// A range input with its name before it and its value, in words, behind it.
export const slider = (text, properties, shown = (value) => value) => {
  const range = make('input', { type: 'range', name: text, ...properties });
  const value = make('output', { 'aria-live': 'off' });
  const show = () => {
    value.textContent = shown(range.valueAsNumber);
    range.setAttribute('aria-valuetext', value.textContent);
  };
  range.addEventListener('input', show);
  show();
  return { range, show, element: make('div', { className: 'ld-row' }, make('label', {}, `${text} `, range), value) };
};
