// Amounts as people type them: 1000.5, 1,000.50, 1.000,50 and 1 000,50 are the same. What could be read in two ways is not guessed.

const ENGLISH = /^\d{1,3}(?:[,'’\s]\d{3})+(?:\.\d+)?$/;
const CONTINENTAL = /^\d{1,3}(?:[.'’\s]\d{3})+(?:,\d+)?$/;

// read returns the decimal that the API takes. It throws a problem of the field if the text can be read in two ways; any other
// text is returned as it is, and the server says what is wrong with it.
export function read(text, decimals, field) {
  const [, whole, sign, rest] = /^(\d{1,3})([.,])(\d{3})$/.exec(text) ?? [];
  if ((sign === '.' && decimals < 3) || (sign === ',' && decimals >= 3)) throw ambiguous(text, whole, rest, decimals, field);
  if (/^\d+(?:\.\d+)?$/.test(text)) return text;
  if (ENGLISH.test(text)) return text.replace(/[,'’\s]/g, '');
  if (CONTINENTAL.test(text)) return text.replace(/[.'’\s]/g, '').replace(',', '.');
  if (/^\d+,\d+$/.test(text)) return text.replace(',', '.');
  return text;
}

function ambiguous(text, whole, rest, decimals, field) {
  const other = /^0*$/.test(rest.slice(decimals)) ? ` or ${exact(`${whole}.${rest.slice(0, decimals)}`, decimals)}` : `, or at most ${decimals} decimals`;
  const detail = `“${text}” can be read as a thousand or as a fraction: write ${whole}${rest}${other}`;
  return { title: 'The amount is not clear', message: detail, errors: [{ pointer: `/${field}`, detail }] };
}

// exact is a decimal with as many decimals as its currency has: 5 is 5.00 in euros.
export function exact(decimal, decimals) {
  const [whole, rest = ''] = decimal.split('.');
  return decimals === 0 ? whole : `${whole}.${rest.padEnd(decimals, '0')}`;
}
