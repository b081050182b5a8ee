// Runs the client against the API whose address is the first argument; prints what came out as one JSON object.

import { ApiError, connect, follow, history, rejected, remove, schedule, setUp, start } from "./client.js";

declare const process: { argv: string[] };

const [, , baseUrl = "", apiKey = "", audience = "", segment = ""] = process.argv;
const api = connect(baseUrl);
const choice = { displayName: "Portal", apiKey, audience, segments: [segment] };

const destination = await setUp(api, choice);
const exportId = await start(api, destination.id, "portal-1");
const again = await start(api, destination.id, "portal-1");
const ended = await follow(api, exportId, () => undefined);
const next = await follow(api, await start(api, destination.id, "portal-2"), () => undefined);
const refusal = await setUp(api, choice).catch((error: unknown) => error);
const report = {
  ready: destination.ready,
  sameExport: again === exportId,
  status: ended.status,
  books: ended.books,
  rejected: (await rejected(api, exportId)).trim().split("\n").length - 1,
  history: (await history(api, destination.id, 1)).map((each) => [next.id, exportId].indexOf(each.id)),
  nextRunAt: (await schedule(api)).nextRunAt,
  refusal: refusal instanceof ApiError ? [refusal.status, refusal.code] : String(refusal),
};
await remove(api, destination.id);
await remove(api, destination.id);
console.log(JSON.stringify(report));
