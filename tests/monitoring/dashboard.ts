// The type of the dashboard, from those that Grafana publishes. JSON has the values of their
// enumerations.
import type { Dashboard, Panel, RowPanel } from "@grafana/schema";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { Options as TimeSeries } from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Plain<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}`
      ? N
      : T
    : T extends object
      ? { [K in keyof T]: Plain<T[K]> }
      : T;

type Row = Plain<RowPanel>;
type PanelOf<Name, Options> = Plain<Omit<Panel, "type" | "options">> & {
  type: Name;
  options: Plain<Options>;
};

export type OurDashboard = Plain<Omit<Dashboard, "panels">> & {
  panels: Array<Row | PanelOf<"stat", Stat> | PanelOf<"timeseries", TimeSeries>>;
};
