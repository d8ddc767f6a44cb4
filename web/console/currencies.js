// The currencies of ISO 4217 that an account can be opened in, and the decimals that they have. A browser's own list has others.
const CODES = {
  0: 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF',
  2: `AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU
    CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES
    KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR
    NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
    TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG`,
  3: 'BHD IQD JOD KWD LYD OMR TND',
  4: 'CLF UYW',
};
const names = new Intl.DisplayNames('en', { type: 'currency' });
const decimals = new Map(Object.entries(CODES).flatMap(([n, codes]) => codes.split(/\s+/).map((code) => [code, Number(n)])));

// decimalsOf is how many decimals amounts of a currency have.
export const decimalsOf = (code) => decimals.get(code) ?? 2;

// nameOf is a currency as people read it: EUR, Euro.
export const nameOf = (code) => (names.of(code) === code ? code : `${code}, ${names.of(code)}`);

// CURRENCIES are the codes, in the order of the alphabet.
export const CURRENCIES = [...decimals.keys()].sort();
