// Reads Prometheus' text format: only the samples whose names are wanted.

const escapes = { '\\\\': '\\', '\\"': '"', '\\n': '\n' };

/** samples yields {name, labels, value} for each sample whose name `wanted` accepts. */
export function* samples(text, wanted) {
  for (const line of text.split('\n')) {
    if (line === '' || line[0] === '#') continue;
    const brace = line.indexOf('{');
    const space = line.indexOf(' ');
    const plain = brace < 0 || space < brace; // a brace after the first space is not the labels'
    const name = line.slice(0, plain ? space : brace);
    if (!wanted(name)) continue;
    const end = plain ? space : line.lastIndexOf('}') + 1;
    const labels = {};
    if (!plain) {
      for (const [, label, value] of line.slice(brace + 1, end - 1).matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
        labels[label] = value.replace(/\\[\\"n]/g, (escape) => escapes[escape]);
      }
    }
    yield { name, labels, value: number(line.slice(end).trim().split(' ')[0]) }; // a timestamp may follow
  }
}

function number(text) {
  switch (text) {
    case '+Inf': return Infinity;
    case '-Inf': return -Infinity;
    default: return Number(text);
  }
}
