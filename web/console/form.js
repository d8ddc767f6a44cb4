// Forms in dialogs, and the place of the server's words in them: beside the field they name, or else at the top.
import { h, fill, newID, refocus } from './dom.js';
import { Problem } from './api.js';
import { outcome } from './events.js';
import { UUID } from './find.js';
import * as amounts from './amounts.js';
import { decimalsOf } from './currencies.js';
import { amount, zone } from './format.js';
import * as metadata from './metadata.js';
import { readDay, readMoment } from './moments.js';
import { picker } from './picker.js';

// fields makes labelled inputs. A field has a name and a label, and may have a hint, a type, a value and more of what
// inputs have. The type metadata is a text of pairs, which is read also when it is empty if the field is whole; amount is one in the
// field's currency, which may be a function, and says how it is read unless it is plain; account is picked; moment and day are typed. One that is neither required nor plain is
// said to be optional.
export function fields(list) {
  const inputs = new Map();
  const errors = new Map();
  const pickers = new Map();
  const elements = list.map((field) => {
    const id = newID('field');
    const error = h('p', { class: 'field-error', id: `${id}-error`, hidden: true });
    const about = [field.hint && `${id}-hint`, field.type === 'amount' && !field.plain && `${id}-reading`, `${id}-error`].filter(Boolean).join(' ');
    const common = { id, name: field.name, 'aria-describedby': about, 'aria-required': field.required ? 'true' : null };
    const picked = field.type === 'account' ? picker(field, common) : null;
    const input = picked ? picked.input : control(field, common);
    if (picked) pickers.set(field.name, picked);
    inputs.set(field.name, input);
    errors.set(field.name, error);
    const check = field.type === 'checkbox';
    const optional = !field.required && !field.plain && !check;
    return h('div', { class: ['field', field.width, field.type === 'moment' && 'date', check && 'check'] },
      h('label', { for: id }, field.label, field.type === 'moment' && ` (${zone(new Date())})`, field.type === 'day' && ' (UTC)', optional && h('span', { class: 'optional' }, ' optional')),
      picked ? picked.element : input,
      field.type === 'amount' && !field.plain && reading(field, input, `${id}-reading`),
      field.hint && h('p', { class: ['hint', field.warning && 'warning'], id: `${id}-hint` }, field.hint),
      error);
  });
  return { elements, inputs, errors, pickers };
}

const currencyOf = (field) => (typeof field.currency === 'function' ? field.currency() : field.currency);
const readAmount = (field, text) => (text === '' ? '' : amounts.read(text, decimalsOf(currencyOf(field)), field.name));

// reading says how an amount is read that is not written as a plain decimal.
function reading(field, input, id) {
  const line = h('p', { class: 'hint', id, role: 'status' });
  input.addEventListener('input', () => {
    const text = input.value.trim();
    let read = text;
    try {
      read = readAmount(field, text);
    } catch { /* it is said when the form is sent */ }
    fill(line, read !== text && `Read as ${amount(amounts.exact(read, decimalsOf(currencyOf(field))))} ${currencyOf(field)}.`);
  });
  return line;
}

function example(field) {
  switch (field.type) {
    case 'amount': return amounts.exact('0', decimalsOf(currencyOf(field)));
    case 'moment': return 'YYYY-MM-DD hh:mm';
    case 'day': return 'YYYY-MM-DD';
    default: return undefined;
  }
}

function control(field, common) {
  if (field.options) return h('select', common, field.options.map(([value, text]) => h('option', { value, selected: value === field.value }, text)));
  const input = { ...common, autocomplete: field.autocomplete ?? 'off', spellcheck: 'false', placeholder: field.placeholder ?? example(field) };
  if (field.type === 'metadata') return h('textarea', { ...input, rows: 2 }, metadata.write(field.value));
  return h('input', { ...input, type: ['amount', 'moment', 'day'].includes(field.type) ? 'text' : field.type, value: field.value, inputmode: field.type === 'amount' ? 'decimal' : field.inputmode });
}

// values reads what is in the fields, as the API takes it. Empty ones are left out, and refused if they are required. All that is wrong is
// said together.
function values(list, { inputs, pickers }) {
  const found = {};
  const errors = [];
  for (const field of list) {
    try {
      const read = pickers.has(field.name) ? accountIn(field, pickers) : value(field, inputs.get(field.name));
      if (read !== undefined && read !== '') found[field.name] = read;
      else if (field.required) errors.push({ pointer: `/${field.name}`, detail: 'is needed' });
    } catch (problem) {
      if (!problem.errors) throw problem;
      errors.push(...problem.errors);
    }
  }
  if (errors.length > 0) throw new Problem({ title: 'The form is not complete', status: 422, errors });
  return found;
}

// accountIn is the id of the account that is picked, or ''.
export function accountIn(field, pickers) {
  const id = pickers.get(field.name).value();
  if (id === '' || UUID.test(id)) return id.toLowerCase();
  const detail = 'is not an account; choose one of those found';
  throw new Problem({ title: 'No account is chosen', status: 400, detail: `“${id}” ${detail}.`, errors: [{ pointer: `/${field.name}`, detail }] });
}

// value reads one field.
export function value(field, input) {
  const text = input.value.trim();
  switch (field.type) {
    case 'checkbox': return input.checked || undefined;
    case 'amount': return readAmount(field, text);
    case 'moment': return readMoment(text, field.name);
    case 'day': return readDay(text, field.name);
    case 'metadata': return text || field.whole ? metadata.read(text, field.name) : undefined;
    default: return text;
  }
}

// place shows a problem in a form, and moves the focus to what it concerns.
export function place(problem, { inputs, errors }, top) {
  clear({ inputs, errors }, top);
  const rest = mark(problem, { inputs, errors });
  const first = [...inputs.values()].find((input) => input.hasAttribute('aria-invalid'));
  if (rest.length > 0 || !first) {
    const said = sayOnce(problem);
    fill(top, said, rest.filter((one) => !said.toLowerCase().includes(one.detail.toLowerCase())).map((one) => h('span', null, ` ${fieldOf(one)}: ${one.detail}`)));
    top.hidden = false;
  }
  (first ?? top).focus();
}

// sayOnce is a problem in a sentence or two. The title of a refusal repeats its detail; that of an outage says what it is.
function sayOnce(problem) {
  if (problem.scope) return `The key lacks the scope ${problem.scope}.`;
  // What a read says of something missing is for programs.
  if (problem.code?.endsWith('-not-found') && !problem.message.startsWith('No ')) return `${problem.title}.`;
  return problem.unsettled ? `${problem.title}. ${problem.message}` : problem.message;
}

// mark shows the errors of a problem beside their fields, and returns those that concern no field.
export function mark(problem, { inputs, errors }) {
  const rest = [];
  for (const one of problem.errors ?? []) {
    // Of the keys of metadata, all are in one field.
    const name = fieldOf(one).replace(/^metadata[/[].*/, 'metadata');
    const input = inputs.get(name);
    if (!input) {
      rest.push(one);
      continue;
    }
    const error = errors.get(name);
    error.append(h('span', null, sentence(one.detail, name)));
    error.hidden = false;
    input.setAttribute('aria-invalid', 'true');
  }
  return rest;
}

// fieldOf is the name of the field that an error points to: /amount is amount.
function fieldOf(error) {
  return (error.pointer ?? '').replace(/^\//, '').replaceAll('~1', '/').replaceAll('~0', '~') || (error.parameter ?? error.header ?? '');
}

// sentence makes a sentence of a field's error; the field's name is already shown above it.
function sentence(text, name) {
  const rest = text.startsWith(`${name} `) ? text.slice(name.length + 1) : text;
  return `${rest.replace(/^./, (first) => first.toUpperCase())}${rest.endsWith('.') ? '' : '.'}`;
}

// clear takes away what place or mark has shown.
export function clear({ inputs, errors }, top) {
  for (const [name, input] of inputs) {
    input.removeAttribute('aria-invalid');
    errors.get(name).hidden = true;
    fill(errors.get(name));
  }
  if (!top) return;
  top.hidden = true;
  fill(top);
}

// attempts gives each attempt its Idempotency-Key: the same one while it is unknown whether the command was applied and
// nothing in it has changed, a new one otherwise.
export function attempts() {
  let pending = null;
  return {
    key(body) {
      const text = JSON.stringify(body);
      if (pending?.text !== text) pending = { text, key: crypto.randomUUID() };
      return pending.key;
    },
    settled() { pending = null; },
  };
}

// openForm shows a dialog with a form. submit gets the values and how to send them, { key, dryRun }, and what it returns is
// handed to done with the values when the dialog is closed; changed gets the inputs when one has changed; an error it throws is shown in the form. dryRun is 'offered' for a form that can
// be tried, and 'first' for one that is tried before it can be sent: until then, and after each change, its button does that.
export function openForm({ title, about, list = [], label, danger, dryRun, submit, done, changed }) {
  const made = fields(list);
  const titleID = newID('title');
  const top = h('div', { class: 'problem', role: 'alert', tabindex: '-1', hidden: true });
  const button = h('button', { type: 'submit' });
  const tried = h('div', { class: 'dry-run', role: 'group', 'aria-label': 'Dry run', tabindex: '-1', hidden: true });
  const attempt = attempts();
  const form = h('form', { novalidate: true, class: 'form', on: { submit: send, input: () => settle(false), change: () => changed?.(made.inputs) } },
    h('h2', { id: titleID }, title), about && h('p', { class: 'about' }, about), top, made.elements, tried,
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'quiet', on: { click: () => dialog.close() } }, 'Cancel'),
      dryRun === 'offered' && h('button', { type: 'button', on: { click: () => run(true) } }, 'Dry run'), button));
  const dialog = h('dialog', { 'aria-labelledby': titleID, on: { close: closed } }, form);
  const opener = document.activeElement;
  let dry = false; // what the button does

  // settle says whether what is shown of a dry run is that of the values in the form.
  function settle(shown) {
    tried.hidden = !shown;
    dry = dryRun === 'first' && !shown;
    fill(button, dry ? 'See what it does' : label);
    button.className = danger && !dry ? 'danger' : 'primary';
  }

  // The button that has opened the form gets the focus again, or what a refreshed page has in its place.
  function closed() {
    dialog.remove();
    if (!opener.isConnected) refocus(opener, document.getElementById('main'));
  }

  function send(event) {
    event.preventDefault();
    run(dry);
  }

  async function run(trying) {
    if (button.getAttribute('aria-disabled') === 'true') return;
    button.setAttribute('aria-disabled', 'true');
    button.classList.add('busy');
    try {
      for (const picked of made.pickers.values()) {
        if (!await picked.settled()) return;
      }
      const found = values(list, made);
      if (trying) {
        const result = await submit(found, { dryRun: true });
        clear(made, top);
        // What has been changed meanwhile has not been tried.
        if (JSON.stringify(found) !== JSON.stringify(values(list, made))) return;
        fill(tried, outcome(result));
        settle(true);
        tried.focus();
        return;
      }
      const result = await submit(found, { key: attempt.key(found) });
      attempt.settled();
      dialog.close();
      done?.(result, found);
    } catch (error) {
      if (!error.unsettled && !trying) attempt.settled();
      settle(false);
      place(error, made, top);
    } finally {
      button.removeAttribute('aria-disabled');
      button.classList.remove('busy');
    }
  }

  settle(false);
  document.body.append(dialog);
  dialog.showModal();
  (made.inputs.values().next().value ?? button).focus();
  return dialog;
}
