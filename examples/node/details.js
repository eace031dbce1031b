// What an error of a Diplex gateway holds beside its code and message.

import { fileURLToPath } from "node:url";

import { status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const types = loadSync(fileURLToPath(new URL("google_rpc.proto", import.meta.url)), {
  keepCase: true,
  longs: Number,
});
const decode = (name, bytes) => types[`google.rpc.${name}`].deserialize(bytes);

/**
 * The details that came with an error.
 *
 * @param {import("@grpc/grpc-js").ServiceError} error
 * @returns {{reason?: string, metadata: object, violations: object[], retrySeconds?: number}} `reason` is the constant
 *   one of docs/errors.md; `violations` name the fields or quotas at fault; `retrySeconds` says when to come back.
 */
export function detailsOf(error) {
  const told = { metadata: {}, violations: [] };
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  for (const any of bytes ? (decode("Status", bytes).details ?? []) : []) {
    const name = any.type_url.split("google.rpc.")[1];
    if (!types[`google.rpc.${name}`]) continue; // a newer gateway's
    const detail = decode(name, any.value);
    if (name === "ErrorInfo") Object.assign(told, { reason: detail.reason, metadata: detail.metadata ?? {} });
    if (name === "BadRequest") told.violations.push(...detail.field_violations);
    if (name === "QuotaFailure") told.violations.push(...detail.violations);
    if (name === "RetryInfo") {
      told.retrySeconds = (detail.retry_delay?.seconds ?? 0) + (detail.retry_delay?.nanos ?? 0) / 1e9;
    }
  }
  return told;
}

/**
 * Calls again what a later call may do better: after RetryInfo's delay where there is one, else after a pause that
 * doubles, with jitter.
 *
 * @param {() => Promise<T>} attempt makes one call
 * @param {number} seconds for which it is tried
 * @template T
 */
export async function retrying(attempt, seconds = 20) {
  const end = Date.now() + 1000 * seconds;
  for (let pause = 0.1; ; pause = Math.min(2 * pause, 3)) {
    try {
      return await attempt();
    } catch (error) {
      const { retrySeconds } = detailsOf(error);
      const again = error.code === status.UNAVAILABLE || retrySeconds !== undefined;
      const delay = 1000 * Math.max(retrySeconds ?? 0, pause * (0.5 + Math.random()));
      if (!again || Date.now() + delay > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}
