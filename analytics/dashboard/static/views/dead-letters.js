import { panel, table } from "/static/js/kit.js";

export default { mount() {} };
