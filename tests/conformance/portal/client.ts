// What a portal does with the API, written against the types that openapi-typescript makes of its OpenAPI document:
//
//     npx openapi-typescript http://127.0.0.1:7071/api/openapi.json -o schema.d.ts
//
// tests/conformance/test_typescript_client.py compiles this file and runs it.

import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type Api = Client<paths>;
export type Schemas = components["schemas"];
type HistoryQuery = NonNullable<paths["/api/exports"]["get"]["parameters"]["query"]>;

/** The API at `baseUrl`. `token` gives the bearer token of each call; on the developer's own machine there is none. */
export function connect(baseUrl: string, token?: () => Promise<string>): Api {
  const api = createClient<paths>({ baseUrl });
  if (token) {
    api.use({
      async onRequest({ request }) {
        request.headers.set("Authorization", `Bearer ${await token()}`);
        return request;
      },
    });
  }
  return api;
}

/** What the API answered instead of what was asked for; `code` is for programs, the message for people. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;
  readonly details: Schemas["ErrorDetail"][];

  constructor(status: number, { error }: Schemas["ErrorDocument"]) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.details = error.details;
  }
}

interface Answer<T> {
  data?: T;
  error?: Schemas["ErrorDocument"];
  response: Response;
}

/** The data of an answer and its ETag. Throws ApiError. */
function read<T>({ data, error, response }: Answer<T>): { data: T; etag: string | undefined } {
  if (error !== undefined || data === undefined) {
    throw new ApiError(response.status, error as Schemas["ErrorDocument"]);
  }
  return { data, etag: response.headers.get("ETag") ?? undefined };
}

export interface Choice {
  displayName: string;
  apiKey: string;
  audience: string;
  segments: string[];
}

/** Every step of the set-up; returns the destination when an export can start. */
export async function setUp(api: Api, choice: Choice): Promise<Schemas["DestinationView"]> {
  const text = read(await api.GET("/api/consent-text")).data;
  console.error(`Agreeing to version ${text.version}`);
  const created = read(
    await api.POST("/api/destinations", { body: { displayName: choice.displayName, consent: { agreed: true } } }),
  ).data;
  const params = { path: { destinationId: created.id } };
  read(await api.PUT("/api/destinations/{destinationId}/api-key", { params, body: { apiKey: choice.apiKey } }));

  const audiences = read(await api.GET("/api/destinations/{destinationId}/audiences", { params })).data.value;
  const audience = audiences.find((each) => each.name === choice.audience);
  if (!audience) throw new Error(`There is no audience ${choice.audience}.`);

  const segments = read(await api.GET("/api/segments")).data.value;
  const chosen = segments.filter((each) => choice.segments.includes(each.name) && each.exportable);
  const first = chosen[0];
  if (!first) throw new Error("There is nothing to export.");
  const detail = read(await api.GET("/api/segments/{name}", { params: { path: { name: first.name } } })).data;
  const { email, firstName, lastName } = detail.suggestedDataMatching;
  if (email === null) throw new Error(`No field of ${first.name} looks like an e-mail address.`);

  const { etag } = read(await api.PUT("/api/destinations/{destinationId}/export-user", { params }));
  return read(
    await api.PATCH("/api/destinations/{destinationId}", {
      params: { ...params, header: { "If-Match": etag } },
      body: {
        audienceId: audience.id,
        segments: chosen.map((each) => each.name),
        dataMatching: { email, firstName, lastName, mergeFields: {} },
      },
    }),
  ).data;
}

/** Starts an export, or finds the one that runs already; returns its ID. */
export async function start(api: Api, destinationId: string, idempotencyKey: string): Promise<string> {
  const { data, error, response } = await api.POST("/api/destinations/{destinationId}/exports", {
    params: { path: { destinationId }, header: { "Idempotency-Key": idempotencyKey } },
  });
  if (data) return data.id;
  switch (error.error.code) {
    case "exportRunning":
      return response.headers.get("Operation-Location")?.split("/").pop() ?? "";
    case "destinationNotReady":
      throw new Error(`Still to do: ${error.error.details.map((each) => each.message).join(", ")}`);
    default:
      throw new ApiError(response.status, error);
  }
}

/** Follows an export to its end; `show` hears how far it is. */
export async function follow(
  api: Api,
  exportId: string,
  show: (percent: number, secondsLeft: number | null) => void,
): Promise<Schemas["ExportView"]> {
  for (;;) {
    const answer = await api.GET("/api/exports/{exportId}", { params: { path: { exportId } } });
    const { data } = read(answer);
    if (data.ended) return data;
    if (data.progress) show(data.progress.percent, data.progress.secondsLeft);
    await seconds(Number(answer.response.headers.get("Retry-After") ?? "2"));
  }
}

/** The profiles that Mailchimp did not take, as CSV. */
export async function rejected(api: Api, exportId: string): Promise<string> {
  return read(
    await api.GET("/api/exports/{exportId}/rejected", { params: { path: { exportId } }, parseAs: "text" }),
  ).data;
}

/** All exports of a destination that did not take everybody, newest first, page by page. */
export async function history(api: Api, destinationId: string, pageSize = 50): Promise<Schemas["ExportView"][]> {
  const found: Schemas["ExportView"][] = [];
  let after: string | null = null;
  do {
    const query: HistoryQuery = { destinationId, status: ["CompletedWithErrors"], top: pageSize, after };
    const page = read(await api.GET("/api/exports", { params: { query } })).data;
    found.push(...page.value);
    after = page.nextLink && new URL(page.nextLink).searchParams.get("after");
  } while (after);
  return found;
}

/** Every weekday at six. */
export async function schedule(api: Api): Promise<Schemas["ScheduleView"]> {
  const days: Schemas["Day"][] = ["monday", "tuesday", "wednesday", "thursday", "friday"];
  return read(
    await api.PUT("/api/schedule", { body: { isActive: true, timeZone: "Europe/Berlin", days, times: ["06:00"] } }),
  ).data;
}

/** Removes a destination and waits until nothing is left of it; one that is gone already is as good. */
export async function remove(api: Api, destinationId: string): Promise<void> {
  for (;;) {
    const { data, error, response } = await api.DELETE("/api/destinations/{destinationId}", {
      params: { path: { destinationId } },
    });
    if (response.status === 204 || error?.error.code === "destinationNotFound") return;
    if (error) throw new ApiError(response.status, error);
    if (data?.removal?.problem) console.error(`The removal waits: ${data.removal.problem}`);
    await seconds(Number(response.headers.get("Retry-After") ?? "2"));
  }
}

function seconds(count: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, count * 1000));
}
