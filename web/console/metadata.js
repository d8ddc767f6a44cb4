// Metadata as text that can be edited: a line for each key, as "key: value". Either side may be a JSON string in quotes, which
// is how it is written when it could not be read back otherwise.

const plain = (text) => text !== '' && text === text.trim() && !text.startsWith('"') && !/[\r\n]/.test(text);
const writeKey = (key) => (plain(key) && !key.includes(':') ? key : JSON.stringify(key));
const writeValue = (value) => (plain(value) || value === '' ? value : JSON.stringify(value));

// write makes the text.
export const write = (metadata) => Object.entries(metadata ?? {}).map(([key, value]) => `${writeKey(key)}: ${writeValue(value)}`).join('\n');

const LINE = /^\s*("(?:[^"\\]|\\.)*"|[^:"][^:]*?)\s*:\s*(.*?)\s*$/;
const unquote = (text) => (text.startsWith('"') ? JSON.parse(text) : text);

// read makes an object of the text. A line that is no pair is refused, as a problem of the field.
export function read(text, field) {
  const pairs = [];
  for (const line of text.split('\n').filter((one) => one.trim() !== '')) {
    try {
      const [, key, value] = LINE.exec(line);
      pairs.push([unquote(key), unquote(value)]);
    } catch {
      throw refusal(field, `“${line.trim()}” is not of the form key: value`);
    }
  }
  const twice = pairs.find(([key], i) => pairs.findIndex(([other]) => other === key) < i);
  if (twice) throw refusal(field, `“${twice[0]}” is there twice`);
  return Object.fromEntries(pairs);
}

function refusal(field, detail) {
  return { title: 'The metadata cannot be read', message: detail, errors: [{ pointer: `/${field}`, detail }] };
}

// patch is the merge patch (RFC 7396) that makes one of the other.
export function patch(from, to) {
  return Object.fromEntries([
    ...Object.keys(from).filter((key) => !Object.hasOwn(to, key)).map((key) => [key, null]),
    ...Object.entries(to).filter(([key, value]) => !Object.hasOwn(from, key) || from[key] !== value),
  ]);
}
