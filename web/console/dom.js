// What every page builds its elements with. Text is always set as text, never as markup.

const SVG = 'http://www.w3.org/2000/svg';

// h makes an HTML element. Properties: on is an object of listeners, class is a string or a list whose empty entries are
// left out, true is an attribute without a value, and null, undefined and false are no attribute at all.
export function h(tag, properties, ...children) {
  return build(document.createElement(tag), properties, children);
}

// s is h for SVG.
export function s(tag, properties, ...children) {
  return build(document.createElementNS(SVG, tag), properties, children);
}

function build(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === 'class') {
      element.setAttribute('class', Array.isArray(value) ? value.filter(Boolean).join(' ') : value);
    } else {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

// fill replaces what an element holds. If the focus was in it, what has taken the place of the focused element gets it.
export function fill(element, ...children) {
  const focused = document.activeElement;
  const inside = element.contains(focused) && element !== focused;
  element.replaceChildren(...flat(children));
  if (inside) refocus(focused, element);
  return element;
}

const said = (element) => element.getAttribute('aria-label') ?? element.getAttribute('href') ?? (element.name || element.textContent);

// refocus moves the focus to what is called like a lost element, or to the heading nearest to where it was.
export function refocus(lost, region) {
  const again = [...region.querySelectorAll('a, button, input, select, textarea, [tabindex]')].find((one) => said(one) === said(lost));
  const target = again ?? region.closest('section')?.querySelector('h2') ?? document.querySelector('main h1') ?? document.getElementById('main');
  if (!target.matches('a, button, input, select, textarea, [tabindex]')) target.setAttribute('tabindex', '-1');
  target.focus({ preventScroll: true });
}

// put sets an element's text only when it changes, so that a page that is refreshed each second leaves selections alone.
export function put(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

let ids = 0;

// newID returns an id that no other element has.
export function newID(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}

// toast says what happened, also to screen readers, until it is dismissed, something else happens or half a minute has passed. It
// may hold links.
export function toast(...content) {
  const note = h('div', { class: 'toast' }, h('p', null, content),
    h('button', { type: 'button', class: 'quiet small', on: { click: dismiss } }, 'Dismiss'));
  function dismiss() {
    if (note.contains(document.activeElement)) document.getElementById('main').focus();
    note.remove();
  }
  fill(document.getElementById('toasts'), note);
  setTimeout(() => { if (!note.contains(document.activeElement)) note.remove(); }, 30_000);
}
