// Predictions by k6 at a constant arrival rate, over gRPC (PROTOCOL=grpc) or REST (PROTOCOL=http).
//
//   k6 run --env PROTOCOL=http --env URL=http://127.0.0.1:8080/v1/models/credit_risk:predictByEntity \
//     --env DATA=requests.json --env RATE=200 --env SECONDS=10 loadtest/k6/predict.js
//
// DATA is a JSON array of requests. Over gRPC it is GRPC=host:port, CALL=package.Service/Method and PROTOS=the folder of the
// .proto files in place of URL. A call that fails, or is answered without a prediction, fails the run.
import grpc from "k6/net/grpc";
import http from "k6/http";
import { check } from "k6";
import exec from "k6/execution";
import { SharedArray } from "k6/data";

const requests = new SharedArray("requests", () => JSON.parse(open(__ENV.DATA)));
const isGrpc = __ENV.PROTOCOL === "grpc";
const client = new grpc.Client();
if (isGrpc) {
  client.load([__ENV.PROTOS], "ferrocast/v1/prediction_service.proto");
}

export const options = {
  scenarios: {
    predictions: {
      executor: "constant-arrival-rate",
      rate: Number(__ENV.RATE),
      timeUnit: "1s",
      duration: `${__ENV.SECONDS}s`,
      preAllocatedVUs: 16,
      maxVUs: 256,
    },
  },
  thresholds: { checks: ["rate==1"] },
  summaryTrendStats: ["avg", "med", "p(90)", "p(99)", "p(99.9)", "max"],
};

let isConnected = false;

function overGrpc(request) {
  if (!isConnected) {
    client.connect(__ENV.GRPC, { plaintext: true });
    isConnected = true;
  }
  const answer = client.invoke(__ENV.CALL, request);
  return answer.status === grpc.StatusOK && answer.message.predictions.length === 1;
}

function overHttp(request) {
  const headers = { "Content-Type": "application/json" };
  const answer = http.post(__ENV.URL, JSON.stringify(request), { headers });
  return answer.status === 200 && answer.json("predictions").length === 1;
}

export default function () {
  const request = requests[exec.scenario.iterationInTest % requests.length];
  const answered = isGrpc ? overGrpc(request) : overHttp(request);
  check(answered, { "a prediction was answered": (is) => is });
}

export function handleSummary(data) {
  return __ENV.SUMMARY ? { [__ENV.SUMMARY]: JSON.stringify(data) } : { stdout: JSON.stringify(data.metrics) };
}
