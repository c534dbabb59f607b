// Command loadgen calls one rpc or one URL for some seconds, with prepared requests, and prints what it saw as JSON.
//
// It is made to cost little, because it shares the machine with what it measures: frames are written from ready bytes and
// answers are not decoded, only their status is. In the closed loop each stream sends its next request when the last is
// answered. In the open loop requests are due at fixed times whatever the answers do, and a latency is counted from when
// its request was due, so that a stall is seen in every request that it held up.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"syscall"
	"time"
)

type options struct {
	address     string
	call        string
	path        string
	protos      string
	data        string
	connections int
	streams     int
	rate        float64
	warm        time.Duration
	measured    time.Duration
	drain       time.Duration
}

func main() {
	asked := parse()
	if err := run(asked); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func parse() options {
	var asked options
	flag.StringVar(&asked.address, "address", "", "host:port of the server, without TLS")
	flag.StringVar(&asked.call, "call", "", "the unary rpc, as package.Service/Method")
	flag.StringVar(&asked.path, "path", "", "instead of an rpc, the path that JSON is posted to over HTTP/1.1")
	flag.StringVar(&asked.protos, "protos", "proto", "the folder of the .proto files")
	flag.StringVar(&asked.data, "data", "", "a JSON array of requests, sent in turn")
	flag.IntVar(&asked.connections, "connections", 8, "connections")
	flag.IntVar(&asked.streams, "streams", 1, "requests in flight on each connection; 1 over HTTP/1.1")
	flag.Float64Var(&asked.rate, "rate", 0, "requests a second of an open loop; 0: a closed loop")
	flag.DurationVar(&asked.warm, "warm", time.Second, "how long to call before measuring")
	flag.DurationVar(&asked.measured, "time", 5*time.Second, "how long to measure")
	flag.DurationVar(&asked.drain, "drain", 10*time.Second, "how long to wait for answers that are out when the time is over")
	flag.Parse()
	return asked
}

func run(asked options) error {
	if (asked.call == "") == (asked.path == "") {
		return errors.New("name either an rpc by --call or a path by --path")
	}
	if asked.connections < 1 || asked.streams < 1 {
		return errors.New("--connections and --streams have to be at least 1")
	}
	load, err := prepare(asked)
	if err != nil {
		return err
	}
	begun := cpuSeconds()
	found, err := load.run()
	if err != nil {
		return err
	}
	report := found.report(asked)
	report.GeneratorCPUSeconds = cpuSeconds() - begun
	return json.NewEncoder(os.Stdout).Encode(report)
}

// cpuSeconds is the processor time that this process has taken.
func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
