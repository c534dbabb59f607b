#!/usr/bin/env bash
# What a newcomer does, done by a script: make run, then grpcurl, ghz and curl for each route, then make run again.
# Everything listens on free loopback ports and keeps its data in a folder of its own.
source "$(dirname "$0")/lib.sh"
cd "$root"

command -v curl >/dev/null || apt_install curl
[ ! -e .env ] && [ ! -e ferrocast.toml ] || die "the smoke test runs without settings of your own: move .env and ferrocast.toml away"
for name in $(compgen -e | grep -E '^(FERROCAST_|DATABASE_URL$)' || true); do unset "$name"; done

work=$(mktemp -d)
make_pid=
server=
cleanup() {
    for pid in $server $make_pid; do kill -TERM "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

passed=0
ok() {
    passed=$((passed + 1))
    printf 'ok   %s\n' "$1"
}
fail() {
    printf 'FAIL %s\n%s\n' "$1" "${2:-}"
    printf -- '--- the server said:\n'
    tail -n 40 "$work/server.out" "$work/server.err" 2>/dev/null || true
    printf '%d passed, 1 failed\n' "$passed"
    exit 1
}
# has NAME TEXT PART...: every part is in the text.
has() {
    local name=$1 text=$2 part
    shift 2
    for part in "$@"; do
        [[ "$text" == *"$part"* ]] || fail "$name: \"$part\" is missing in" "$text"
    done
    ok "$name"
}

read -r grpc_port http_port < <(python3 -c '
import socket
held = [socket.socket() for _ in range(2)]
for s in held: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))')
grpc="127.0.0.1:$grpc_port"
http="http://127.0.0.1:$http_port"
export FERROCAST_SERVER_DATA_DIR="$work/data"
export FERROCAST_SERVER_GRPC_ADDR="$grpc" FERROCAST_SERVER_HTTP_ADDR="127.0.0.1:$http_port"

start() {
    make --no-print-directory run >"$work/server.out" 2>"$work/server.err" &
    make_pid=$!
    for _ in $(seq 1 600); do
        if curl -fsS "$http/health/ready" >/dev/null 2>&1; then
            # The recipe's last line becomes the server: it is make's only child.
            server=$(tr -d " " <"/proc/$make_pid/task/$make_pid/children")
            [ -n "$server" ] || fail "make run: no server process"
            return
        fi
        kill -0 "$make_pid" 2>/dev/null || fail "make run ended"
        sleep 0.1
    done
    fail "make run: not ready after a minute"
}
stop() {
    kill -TERM "$server"
    for _ in $(seq 1 300); do
        kill -0 "$server" 2>/dev/null || {
            server=
            wait "$make_pid" || fail "make run ended with exit code $?"
            make_pid=
            return
        }
        sleep 0.1
    done
    fail "the server did not stop"
}

start
has "make run prints its banner" "$(cat "$work/server.out")" \
    "9857 rows written" "Ferrocast is up" "version 1 ready" "grpcurl -plaintext" "curl -s" "/docs"

grpcurl=("$tools/bin/grpcurl" -plaintext)
service=ferrocast.v1.PredictionService
has "grpcurl list" "$("${grpcurl[@]}" "$grpc" list)" \
    ferrocast.v1.FeatureService "$service" ferrocast.v1.ModelService grpc.health.v1.Health
has "grpcurl describe" "$("${grpcurl[@]}" "$grpc" describe "$service")" PredictByEntity google.api.http
has "grpcurl PredictByEntity" \
    "$("${grpcurl[@]}" -d '{"model":"credit_risk","entities":[{"loan_id":"LC00001"}]}' "$grpc" "$service/PredictByEntity")" \
    '"version": "1"' '"score": 0.0274' '"label": "good"'
has "grpcurl health" "$("${grpcurl[@]}" "$grpc" grpc.health.v1.Health/Check)" SERVING

# load SECONDS: ghz for so long; prints its report.
load() {
    "$tools/bin/ghz" --insecure --call "$service.PredictByEntity" --duration "$1s" --concurrency 8 --connections 4 \
        --data '{"model":"credit_risk","entities":[{"loan_id":"LC0{{randomInt 1000 9857}}"}]}' --format json "$grpc"
}
# counts <REPORT: whether calls were answered, and how many failed.
counts() {
    python3 -c '
import json, sys
report = json.load(sys.stdin)
codes = report["statusCodeDistribution"]
# Calls that the end of the time cuts off are ghz'"'"'s own doing.
cut = codes.get("Unavailable", 0) + codes.get("Canceled", 0)
print("answered", codes.get("OK", 0) > 100, "failed", report["count"] - codes.get("OK", 0) - cut)
print("%d calls, p99 %.1f ms" % (codes.get("OK", 0), [l["latency"] for l in report["latencyDistribution"] if l["percentage"] == 99][0] / 1e6), file=sys.stderr)
'
}
has "ghz PredictByEntity for 3 seconds" "$(load 3 | counts)" "answered True failed 0"

post() { curl -sS --max-time 10 "$http$1" -d "$2"; }
get() { curl -sS --max-time 10 "$http$1"; }
has "POST :predictByEntity" \
    "$(post /v1/models/credit_risk:predictByEntity '{"entities":[{"loan_id":"LC00001"}],"includeFeatures":true}')" \
    '"model":"credit_risk"' '"predictionId":"' '"score":0.0274' '"label":"good"' '"probabilities":{' \
    '"applicant:annual_inc":35000' '"applicant:annual_inc":"PRESENT"'
has "POST :predict" "$(post /v1/models/credit_risk:predict '{"rows":[{"annual_inc":52000,"term":"term_36"}]}')" '"score":'
job=$(post /v1/models/credit_risk:submitPrediction '{"entities":[{"loan_id":"LC00001"},{"loan_id":"LC00020"}]}')
has "POST :submitPrediction" "$job" '"jobId":"' '"total":2'
job=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["jobId"])' <<<"$job")
for _ in $(seq 1 100); do
    answer=$(get "/v1/predictionJobs/$job")
    [[ "$answer" == *'"state":"QUEUED"'* || "$answer" == *'"state":"RUNNING"'* ]] || break
    sleep 0.1
done
has "GET predictionJobs/{job_id}" "$answer" '"state":"SUCCEEDED"' '"done":2' '"score":0.0274'
has "GET predictionJobs" "$(get /v1/predictionJobs)" "$job"
id=$(post /v1/models/credit_risk:predictByEntity '{"entities":[{"loan_id":"LC00001"}]}' | sed -E 's/.*"predictionId":"([^"]+)".*/\1/')
has "GET predictions/{prediction_id}" "$(get "/v1/predictions/$id")" '"loan_id":"LC00001"' '"role":"ANSWER"' '"score":0.0274'
has "POST predictions:replay" "$(post "/v1/predictions/$id:replay" '{}')" '"sameVersion":true' '"identical":true'
has "GET ledger" "$(get /v1/ledger)" '"enabled":true' '"droppedAway":"0"' '"droppedRefused":"0"'
has "ferrocast predictions export" \
    "$("${CARGO_TARGET_DIR:-target}/release/ferrocast" predictions export --from 2020-01-01 --model credit_risk --out "$work/predictions.parquet")" \
    "is written"
has "POST features:get" \
    "$(post /v1/features:get '{"features":["applicant:annual_inc"],"entities":[{"loan_id":"LC00001"}]}')" \
    '{"columns":[{"feature":"applicant:annual_inc","values":[35000],"statuses":["PRESENT"],"eventTimestamps":["2016-01-04T00:00:00Z"],"ageBound":"0s"}]'
has "POST :write" \
    "$(post /v1/featureViews/applicant:write '{"rows":[{"loan_id":"smoke","annual_inc":1,"eventTimestamp":"2026-01-01T00:00:00Z"}]}')" \
    '{"written":"1","late":"0"}'
has "features:get by service, as rows" \
    "$(post /v1/features:get '{"featureService":"credit_risk","entities":[{"loan_id":"LC00001"}],"format":"ROWS"}')" \
    '"featureService":"credit_risk@1"' '"applicant:annual_inc":35000' '"applicant:annual_inc":"PRESENT"'
has "a write of one feature leaves the others alone" \
    "$(post /v1/featureViews/applicant:write '{"rows":[{"loan_id":"smoke","emp_length":"emp_3","eventTimestamp":"2026-01-02T00:00:00Z"}]}'
       post /v1/features:get '{"features":["applicant:annual_inc","applicant:emp_length","applicant:inq_fi"],"entities":[{"loan_id":"smoke"}],"format":"ROWS"}')" \
    '"applicant:annual_inc":1,' '"applicant:emp_length":"emp_3"' '"applicant:inq_fi":"NOT_FOUND"'
batch='{"id":7,"batch":{"view":"applicant","rows":[{"loan_id":"smoke2","annual_inc":2}]}}{"id":8,"batch":{"view":"applicant","rows":[{"loan_id":"smoke2","nothing":2}]}}'
has "grpcurl StreamWriteFeatures" \
    "$("${grpcurl[@]}" -d "$batch" "$grpc" ferrocast.v1.FeatureService/StreamWriteFeatures)" \
    '"id": "7"' '"written": "1"' '"id": "8"' 'rows[0].nothing'
has "POST entities:delete" "$(post /v1/entities/loan:delete '{"key":{"loan_id":"smoke2"}}')" '{"views":"1"'
has "POST featureViews:materialize" "$(post /v1/featureViews:materialize '{"views":["applicant"],"force":true}')" \
    '"isDone":true' '"late":"9857"'
has "GET featureViews/{view} with statistics" "$(get '/v1/featureViews/loan_terms?statistics=true')" '"rows":"9857"' '"quantiles":['
has "ferrocast describe" "$("${CARGO_TARGET_DIR:-target}/release/ferrocast" describe loan_terms)" "9857 rows" "int_rate"
has "GET featureServices" "$(get /v1/featureServices)" '"name":"credit_risk"' '"loan_terms:int_rate"'
has "GET models" "$(get /v1/models)" '"name":"credit_risk"'
has "GET models/{model}" "$(get /v1/models/credit_risk)" '"defaultVersion":"1"' '"state":"READY"'
has "GET featureViews" "$(get /v1/featureViews)" '"name":"applicant"' '"name":"loan_terms"'
has "GET featureViews/{view}" "$(get /v1/featureViews/applicant)" '"joinKeys"'
has "GET health/live" "$(get /health/live)" SERVING
has "GET health/ready" "$(get /health/ready)" SERVING
has "GET docs" "$(get /docs)" SwaggerUI
has "GET redoc" "$(get /redoc)" Redoc
has "GET openapi.json" "$(get /openapi.json)" '"openapi":"3.1' '/v1/models/{model}:predictByEntity'
has "POST :explain" "$(post /v1/models/credit_risk:explain '{"entity":{"loan_id":"LC00001"}}')" \
    '"class":"bad"' '"rawScore":-3.' '"contributions":[{"input":'
has "grpcurl StreamPredict" \
    "$("${grpcurl[@]}" -d '{"id":7,"predict":{"model":"credit_risk","rows":[{}]}}{"id":8,"predict":{"model":"nope","rows":[{}]}}' \
        "$grpc" "$service/StreamPredict")" '"id": "7"' '"score": ' '"id": "8"' '"code": 5'
has "an unknown model" "$(post /v1/models/nope:predict '{"rows":[{}]}')" '"code":404' '"status":"NOT_FOUND"' '"requestId":"'
stop

# A repository of its own from here on, to release in.
cp -r models "$work/models"
export FERROCAST_MODELS_PATH="$work/models"
start
has "a second make run loads nothing twice" "$(cat "$work/server.out")" "everything is as defined" "loaded already"
[[ "$(cat "$work/server.out")" != *"rows written"* ]] || fail "a second make run loaded again"
has "what was written is still there" \
    "$(post /v1/features:get '{"features":["applicant:annual_inc"],"entities":[{"loan_id":"smoke"}]}')" '"values":[1]'

put() { curl -sS --max-time 30 -X PUT "$http$1" -d "$2"; }
cp -r "$work/models/credit_risk/1" "$work/models/credit_risk/being-made"
sed -i 's/^  "version": "1"/  "version": "2"/' "$work/models/credit_risk/being-made/signature.json"
mv "$work/models/credit_risk/being-made" "$work/models/credit_risk/2"
for _ in $(seq 1 300); do
    model=$(get /v1/models/credit_risk)
    [[ "$model" == *'"version":"2","state":"READY"'* ]] && break
    sleep 0.1
done
has "a new folder is a new version" "$model" '"version":"2","state":"READY"' '"defaultVersion":"1"'
load 25 >"$work/swaps.json" &
loading=$!
sleep 1
for swap in $(seq 1 50); do
    on=$((swap % 2 + 1)) off=$((2 - swap % 2))
    put /v1/models/credit_risk/aliases/champion "{\"version\":\"$on\"}" >"$work/swap.out"
    for what in unload load; do
        curl -sS --max-time 30 "$http/v1/models/credit_risk:$what" -d "{\"version\":\"$off\"}" >>"$work/swap.out"
    done
    [[ "$(cat "$work/swap.out")" != *'"code":'* ]] || fail "swap $swap" "$(cat "$work/swap.out")"
done
kill -0 "$loading" 2>/dev/null || fail "the load ended before the swaps"
wait "$loading"
has "50 swaps under load fail no request" "$(counts <"$work/swaps.json")" "answered True failed 0"
has "what was released is told" "$(get '/v1/models/credit_risk/releaseEvents?limit=1')" '"revision":"150"'
stop
printf '%d passed, 0 failed\n' "$passed"
