// All that a view's module needs.
export { address, get, post, Problem } from "./api.js";
export { barChart, sparkline, timeChart } from "./chart.js";
export { badge, search, segmented, select, stat, stats } from "./controls.js";
export { confirm, dialog, showSql, toast } from "./dialogs.js";
export { clear, h, svg } from "./dom.js";
export * as format from "./format.js";
export { copyable, empty, panel, REPLAY } from "./panel.js";
export { table } from "./table.js";
