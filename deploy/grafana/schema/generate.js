// Writes each dashboard as a TypeScript literal of the type that it has to have: in
// a literal, a property that the type does not know is an error. Lines are the
// dashboard's own, so that the compiler's errors point at them.
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { defaultDashboard } from "@grafana/schema";

const from = "../dashboards/";
const to = "generated/";
const files = readdirSync(from).filter((name) => name.endsWith(".json"));
if (files.length === 0) throw new Error(`no dashboards in ${from}`);
rmSync(to, { recursive: true, force: true });
mkdirSync(to);
for (const name of files) {
  const text = readFileSync(from + name, "utf8").trim();
  const { schemaVersion } = JSON.parse(text);
  if (schemaVersion !== defaultDashboard.schemaVersion) {
    throw new Error(
      `${name}: schemaVersion is ${schemaVersion}, Grafana's ${defaultDashboard.schemaVersion}`,
    );
  }
  writeFileSync(
    `${to}${name}.ts`,
    `(${text}) satisfies Dashboard;\nimport type { Dashboard } from "../types.js";\n`,
  );
}
