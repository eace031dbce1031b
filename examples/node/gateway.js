// How to reach a Diplex gateway: stubs made from its .proto files when the program starts, without generated code.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { Metadata, credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));

const definition = loadSync(["diplex/v1/generation.proto", "diplex/v1/models.proto"], {
  includeDirs: [PROTOS],
  keepCase: true, // fields are called as in the .proto files
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true, // `event.event` says which of its fields is set
});
const { GenerationService, ModelService } = loadPackageDefinition(definition).diplex.v1;

/** Where the gateway is, and how it is spoken to: TLS if DIPLEX_CA_FILE names who signed its certificate. */
function target() {
  const authority = process.env.DIPLEX_CA_FILE;
  return [
    process.env.DIPLEX_ADDRESS ?? "127.0.0.1:50051",
    authority ? credentials.createSsl(readFileSync(authority)) : credentials.createInsecure(),
    // Requests with images are larger than gRPC's own limit of 4 MiB allows; answers hardly ever are.
    { "grpc.max_send_message_length": 32 * 1024 * 1024 },
  ];
}

/** A client of diplex.v1.GenerationService. */
export const generation = () => new GenerationService(...target());

/** A client of diplex.v1.ModelService. */
export const models = () => new ModelService(...target());

/** Who calls: the API key, if DIPLEX_API_KEY has one. */
export function caller() {
  const metadata = new Metadata();
  if (process.env.DIPLEX_API_KEY) metadata.set("authorization", `Bearer ${process.env.DIPLEX_API_KEY}`);
  return metadata;
}

/** A deadline so many seconds from now: the gateway and the worker keep to it, too. */
export const within = (seconds) => ({ deadline: Date.now() + 1000 * seconds });

/** A unary call as a promise. */
export function call(client, method, request, options = within(60)) {
  return new Promise((resolve, reject) => {
    client[method](request, caller(), options, (error, reply) => (error ? reject(error) : resolve(reply)));
  });
}
