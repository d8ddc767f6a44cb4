// Forms in dialogs, and the place of the server's words in them: beside the field they name, or else at the top.
import { h, fill, newID } from './dom.js';

// fields makes labelled inputs. A field has a name and a label, and may have a hint, a type, a value and more of what
// inputs have. One that is neither required nor plain is said to be optional.
export function fields(list) {
  const inputs = new Map();
  const errors = new Map();
  const elements = list.map((field) => {
    const id = newID('field');
    const error = h('p', { class: 'field-error', id: `${id}-error`, hidden: true });
    const about = [field.hint && `${id}-hint`, `${id}-error`].filter(Boolean).join(' ');
    const common = { id, name: field.name, 'aria-describedby': about, 'aria-required': field.required ? 'true' : null };
    const input = field.options
      ? h('select', common, field.options.map(([value, text]) => h('option', { value, selected: value === field.value }, text)))
      : h('input', {
        ...common, type: field.type ?? 'text', value: field.value, inputmode: field.inputmode, list: field.list,
        autocomplete: field.autocomplete ?? 'off', spellcheck: 'false', placeholder: field.placeholder, step: field.step,
      });
    inputs.set(field.name, input);
    errors.set(field.name, error);
    return h('div', { class: ['field', field.type === 'datetime-local' && 'date'] },
      h('label', { for: id }, field.label, field.required || field.plain ? null : h('span', { class: 'optional' }, ' optional')),
      input,
      field.hint && h('p', { class: 'hint', id: `${id}-hint` }, field.hint),
      error);
  });
  return { elements, inputs, errors };
}

// place shows a problem in a form, and moves the focus to what it concerns.
export function place(problem, { inputs, errors }, top) {
  clear({ inputs, errors }, top);
  const rest = [];
  for (const one of problem.errors ?? []) {
    const name = fieldOf(one);
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
  const first = [...inputs.values()].find((input) => input.hasAttribute('aria-invalid'));
  if (rest.length > 0 || !first) {
    fill(top, h('strong', null, problem.title, '.'), ' ', problem.scope ? `The key lacks the scope ${problem.scope}. ` : '', problem.message,
      rest.map((one) => h('span', null, ` ${fieldOf(one)}: ${one.detail}`)));
    top.hidden = false;
  }
  (first ?? top).focus();
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

// clear takes away what place has shown.
export function clear({ inputs, errors }, top) {
  for (const [name, input] of inputs) {
    input.removeAttribute('aria-invalid');
    errors.get(name).hidden = true;
    fill(errors.get(name));
  }
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

// openForm shows a dialog with a form. submit gets the values and a key, and what it returns is handed to done when the
// dialog is closed; an error it throws is shown in the form.
export function openForm({ title, about, list = [], label, danger, submit, done }) {
  const made = fields(list);
  const titleID = newID('title');
  const top = h('div', { class: 'problem', role: 'alert', tabindex: '-1', hidden: true });
  const button = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, label);
  const attempt = attempts();
  const form = h('form', { novalidate: true, class: 'form', on: { submit: run } },
    h('h2', { id: titleID }, title), about && h('p', { class: 'about' }, about), top, made.elements,
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'quiet', on: { click: () => dialog.close() } }, 'Cancel'), button));
  const dialog = h('dialog', { 'aria-labelledby': titleID, on: { close: () => dialog.remove() } }, form);

  async function run(event) {
    event.preventDefault();
    if (button.getAttribute('aria-disabled') === 'true') return;
    const values = Object.fromEntries(list.map(({ name, required }) => [name, made.inputs.get(name).value.trim(), required])
      .filter(([, value, required]) => value !== '' || required));
    button.setAttribute('aria-disabled', 'true');
    button.classList.add('busy');
    try {
      const result = await submit(values, attempt.key(values));
      attempt.settled();
      dialog.close();
      done?.(result);
    } catch (error) {
      if (!error.unsettled) attempt.settled();
      place(error, made, top);
    } finally {
      button.removeAttribute('aria-disabled');
      button.classList.remove('busy');
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  (made.inputs.values().next().value ?? button).focus();
  return dialog;
}
