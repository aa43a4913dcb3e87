// How numbers are written. Totals are exact; rates and times are rounded.

export const none = '–';

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export function count(n) {
  return n == null ? none : whole.format(n);
}

export function rate(n) {
  if (n == null) return none;
  if (n >= 99.95) return whole.format(n);
  return n.toFixed(n >= 9.995 ? 1 : n === 0 ? 0 : 2);
}

export function seconds(s) {
  if (s == null) return none;
  if (s < 0.00995) return (s * 1e3).toFixed(1) + ' ms';
  if (s < 0.9995) return (s * 1e3).toFixed(0) + ' ms';
  if (s < 99.5) return s.toFixed(1) + ' s';
  return ago(s);
}

/** ago writes a duration as one would say it. */
export function ago(s) {
  if (s < 120) return s.toFixed(0) + ' s';
  if (s < 120 * 60) return (s / 60).toFixed(0) + ' min';
  if (s < 48 * 3600) return (s / 3600).toFixed(0) + ' h';
  return (s / 86400).toFixed(0) + ' days';
}

export function share(part, all) {
  if (!all) return none;
  const percent = 100 * part / all;
  // Never round a positive share to 0 %, or one below 100 % to 100 %.
  if (percent > 0 && percent < 0.1) return '< 0.1 %';
  if (percent < 100 && percent > 99.9) return '> 99.9 %';
  return percent.toFixed(percent === 0 || percent === 100 ? 0 : 1) + ' %';
}

const clockFormat = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });

export function clock(time) {
  return clockFormat.format(time);
}
