import assert from 'node:assert/strict';
import test from 'node:test';

import { ago, count, rate, seconds, share } from '../format.js';

const cases = (write, table) => table.forEach(([want, ...given]) => assert.equal(write(...given), want));

test('totals are exact', () => cases(count, [['0', 0], ['1,234,567', 1234567], ['–', undefined], ['–', null]]));

test('rates have three digits', () => cases(rate, [
  ['0', 0], ['0.00', 0.004], ['9.99', 9.99], ['10.0', 9.996], ['99.9', 99.94], ['100', 99.96], ['1,235', 1234.5], ['–', null],
]));

test('times have a suitable unit', () => cases(seconds, [
  ['0.4 ms', 0.0004], ['9.9 ms', 0.0099], ['12 ms', 0.012], ['999 ms', 0.9994], ['1.0 s', 0.9996], ['99.4 s', 99.4], ['2 min', 125], ['–', null],
]));

test('ages are written as spoken', () => cases(ago, [
  ['119 s', 119], ['2 min', 120], ['120 min', 7199], ['2 h', 7200], ['48 h', 172799], ['2 days', 172800],
]));

test('a positive share is never shown as 0 %, nor one below 100 % as 100 %', () => cases(share, [
  ['0 %', 0, 5], ['100 %', 5, 5], ['< 0.1 %', 9, 1e4], ['> 99.9 %', 9991, 1e4], ['12.5 %', 1, 8], ['–', 1, 0], ['–', 1, undefined],
]));
