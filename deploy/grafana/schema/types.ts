import type * as schema from "@grafana/schema";
import type * as bargauge from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type { Dataquery } from "@grafana/grafana-foundation-sdk/prometheus";
import type * as units from "@grafana/grafana-foundation-sdk/units";

// Grafana's schema leaves a panel's options, custom fields, overrides and queries
// open, since they are the plugins' own. Here they are closed with the types of the
// plugins that the dashboards use.

/** Json is T as JSON has it: with a string enum's values in place of the enum. */
type Json<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends (infer Item)[]
      ? Json<Item>[]
      : T extends object
        ? { [K in keyof T]: Json<T[K]> }
        : T;

/** With is T with other types for some of its properties, which stay optional or not. */
type With<T, Changes> = {
  [K in keyof T]: K extends keyof Changes ? Changes[K] : T[K];
};

type Unit = (typeof units)[keyof typeof units];

type Field<Custom> = With<schema.FieldConfig, { custom: Custom; unit: Unit }>;

/** Property is what an override may set: a property of a field, or a custom one. */
type Property<Custom> =
  | {
      [K in keyof Field<Custom>]-?: { id: K; value: Field<Custom>[K] };
    }[Exclude<keyof Field<Custom>, "custom">]
  | {
      [K in keyof Custom & string]-?: { id: `custom.${K}`; value: Custom[K] };
    }[keyof Custom & string];

type Query = Omit<Dataquery, "_implementsDataqueryVariant" | "refId"> & {
  refId: string;
};

type Visual<Type extends string, Options, Custom = never> = With<
  schema.Panel,
  {
    type: Type;
    options: Options;
    fieldConfig: {
      defaults: Field<Custom>;
      overrides: {
        matcher: { id: "byName" | "byRegexp"; options: string };
        properties: Property<Custom>[];
      }[];
    };
    targets: Query[];
  }
>;

type Panel =
  | Visual<"bargauge", bargauge.Options>
  | Visual<"heatmap", heatmap.Options, heatmap.FieldConfig>
  | Visual<"stat", stat.Options>
  | Visual<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | schema.RowPanel;

/** Annotation is a query's; the three templates are the Prometheus data source's own. */
type Annotation = With<schema.AnnotationQuery, { target: Query }> & {
  titleFormat: string;
  textFormat: string;
  tagKeys: string;
};

export type Dashboard = Json<
  With<
    schema.Dashboard,
    { panels: Panel[]; annotations: { list: Annotation[] } }
  >
>;
