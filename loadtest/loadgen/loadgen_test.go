package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serve answers with a handler over HTTP/1.1 and unencrypted HTTP/2, as a gRPC server does without TLS.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String()
}

// answerStatus answers an empty message with a status.
func answerStatus(writer http.ResponseWriter, status string) {
	writer.Header().Set("Content-Type", "application/grpc")
	writer.Header().Set("Trailer", "Grpc-Status")
	_, _ = writer.Write(make([]byte, prefixBytes))
	writer.Header().Set("Grpc-Status", status)
}

func measure(t *testing.T, asked options, requests string) Report {
	t.Helper()
	asked.protos = filepath.Join("..", "..", "proto")
	if asked.drain == 0 {
		asked.drain = 10 * time.Second
	}
	asked.data = filepath.Join(t.TempDir(), "requests.json")
	if err := os.WriteFile(asked.data, []byte(requests), 0o600); err != nil {
		t.Fatal(err)
	}
	prepared, err := prepare(asked)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := prepared.run()
	if err != nil {
		t.Fatal(err)
	}
	return seen.report(asked)
}

const (
	predict = "ferrocast.v1.PredictionService/PredictByEntity"
	two     = `[{"model":"a","entities":[{"id":"x"}]},{"model":"bb","entities":[{"id":"y"}]}]`
)

// On a busy machine everything takes longer, so times are held against lower bounds only.

func TestAClosedLoopKeepsItsStreamsFull(t *testing.T) {
	var inWork, most atomic.Int64
	address := serve(t, func(writer http.ResponseWriter, request *http.Request) {
		most.Store(max(most.Load(), inWork.Add(1)))
		defer inWork.Add(-1)
		if request.URL.Path != "/"+predict || request.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("%s, %v", request.URL, request.Header)
		}
		time.Sleep(10 * time.Millisecond)
		answerStatus(writer, "0")
	})
	asked := options{address: address, call: predict, connections: 2, streams: 4, measured: 500 * time.Millisecond}
	report := measure(t, asked, two)
	if len(report.Failed) > 0 || report.Calls < 1 || report.Calls > 400 || most.Load() != 8 {
		t.Errorf("%+v, %d at once", report, most.Load())
	}
	if report.P50Ms < 10 {
		t.Errorf("each call takes 10 ms: %+v", report)
	}
}

func TestAStallIsSeenInAllThatItHeldUp(t *testing.T) {
	var calls atomic.Int64
	gate := make(chan struct{})
	address := serve(t, func(writer http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 100 {
			time.AfterFunc(500*time.Millisecond, func() { close(gate) })
		}
		if calls.Load() >= 100 {
			<-gate
		}
		answerStatus(writer, "0")
	})
	asked := options{address: address, call: predict, connections: 2, streams: 1, rate: 500, measured: time.Second}
	report := measure(t, asked, two)
	if report.Calls != 500 || report.P90Ms < 350 || report.MaxMs < 450 {
		t.Errorf("half of the calls were due within a stall of half a second: %+v", report)
	}
}

func TestAStatusOtherThanOKIsAFailure(t *testing.T) {
	var calls atomic.Int64
	address := serve(t, func(writer http.ResponseWriter, _ *http.Request) {
		status := "0"
		if calls.Add(1)%4 == 0 {
			status = "8"
		}
		answerStatus(writer, status)
	})
	asked := options{address: address, call: predict, connections: 1, streams: 1, rate: 200, measured: time.Second}
	report := measure(t, asked, two)
	if report.Calls != 150 || report.Failed["gRPC status 8"] != 50 {
		t.Errorf("%+v", report)
	}
}

func TestAServerThatGoesAwayIsAFailure(t *testing.T) {
	address := serve(t, func(writer http.ResponseWriter, _ *http.Request) {
		panic(http.ErrAbortHandler)
	})
	asked := options{address: address, call: predict, connections: 1, streams: 1, rate: 100, measured: 300 * time.Millisecond}
	report := measure(t, asked, two)
	if report.Calls != 0 || len(report.Failed) == 0 {
		t.Errorf("%+v", report)
	}
}

func TestAServerThatAnswersNoMoreIsNotWaitedForForEver(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	address := serve(t, func(http.ResponseWriter, *http.Request) { <-gate })
	for _, rate := range []float64{0, 100} {
		asked := options{address: address, call: predict, connections: 2, streams: 2, rate: rate, measured: 200 * time.Millisecond, drain: 200 * time.Millisecond}
		begun := time.Now()
		report := measure(t, asked, two)
		expected := map[float64]int64{0: 4, 100: 20}[rate]
		if report.Failed["not answered in time"] != expected || time.Since(begun) > time.Minute {
			t.Errorf("at rate %v: %+v", rate, report)
		}
	}
}

func TestHTTPCountsWhatIsNot200(t *testing.T) {
	var calls atomic.Int64
	address := serve(t, func(writer http.ResponseWriter, request *http.Request) {
		var body map[string]string
		if err := json.NewDecoder(request.Body).Decode(&body); err != nil || body["user_id"] == "" {
			t.Errorf("%v, %v", body, err)
		}
		time.Sleep(10 * time.Millisecond)
		if calls.Add(1)%2 == 0 {
			http.Error(writer, "no", http.StatusServiceUnavailable)
		}
	})
	asked := options{address: address, path: "/predict", connections: 4, streams: 1, measured: 300 * time.Millisecond}
	report := measure(t, asked, `[{"user_id":"a"},{"user_id":"b"}]`)
	if report.Calls < 1 || report.Failed["HTTP status 503"] < 1 {
		t.Errorf("%+v", report)
	}
}

func TestARequestThatTheRPCDoesNotTakeIsNamed(t *testing.T) {
	asked := options{call: predict, protos: filepath.Join("..", "..", "proto"), data: "requests.json"}
	_, err := encode(asked, []json.RawMessage{[]byte(`{}`), []byte(`{"modell":"a"}`)})
	if err == nil || !strings.Contains(err.Error(), "request 1 of requests.json") {
		t.Error(err)
	}
}
