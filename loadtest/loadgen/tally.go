package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	latencyMicrosMax  = 60_000_000
	significantDigits = 3
)

// base is what moments are counted from.
var base = time.Now()

// now is the monotonic time since the start of the program.
func now() time.Duration { return time.Since(base) }

// window is when calls count: those of a closed loop that end in it, those of an open loop that are due in it.
type window struct {
	from, until time.Duration
}

func (w window) has(moment time.Duration) bool { return moment >= w.from && moment < w.until }

// tally is what one connection saw; each has its own, so that none waits for another.
type tally struct {
	latencies *hdrhistogram.Histogram
	failed    map[string]int64
}

func newTally() *tally {
	return &tally{newHistogram(), map[string]int64{}}
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, latencyMicrosMax, significantDigits)
}

func record(histogram *hdrhistogram.Histogram, took time.Duration) {
	micros := min(max(took.Microseconds(), 1), latencyMicrosMax)
	// Within the histogram's range by the line above.
	_ = histogram.RecordValue(micros)
}

// answered counts a call that was answered well.
func (t *tally) answered(took time.Duration) { record(t.latencies, took) }

// failure counts a call that was not, by its kind.
func (t *tally) failure(kind string) { t.failed[kind]++ }

// unanswered is the kind of a call that nothing came back for; without the ports, which would make each a kind of its own.
func unanswered(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "not answered in time"
	}
	if failed := (*net.OpError)(nil); errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Sprintf("not answered: %v", err)
}

// found is what a whole load saw.
type found struct {
	tallies []*tally
	// How late the open loop's requests were sent, by this program's own doing.
	late *hdrhistogram.Histogram
}

// Report is what is printed.
type Report struct {
	CallsPerSecond      float64          `json:"calls_per_second"`
	Calls               int64            `json:"calls"`
	Failed              map[string]int64 `json:"failed"`
	P50Ms               float64          `json:"p50_ms"`
	P90Ms               float64          `json:"p90_ms"`
	P99Ms               float64          `json:"p99_ms"`
	P999Ms              float64          `json:"p999_ms"`
	MaxMs               float64          `json:"max_ms"`
	SentLateP99Ms       float64          `json:"sent_late_p99_ms"`
	GeneratorCPUSeconds float64          `json:"generator_cpu_seconds"`
}

func (f *found) report(asked options) Report {
	all := newTally()
	for _, one := range f.tallies {
		all.latencies.Merge(one.latencies)
		for kind, count := range one.failed {
			all.failed[kind] += count
		}
	}
	report := Report{
		CallsPerSecond: float64(all.latencies.TotalCount()) / asked.measured.Seconds(),
		Calls:          all.latencies.TotalCount(),
		Failed:         all.failed,
		P50Ms:          millis(all.latencies, 50),
		P90Ms:          millis(all.latencies, 90),
		P99Ms:          millis(all.latencies, 99),
		P999Ms:         millis(all.latencies, 99.9),
		MaxMs:          millis(all.latencies, 100),
	}
	if f.late != nil {
		report.SentLateP99Ms = millis(f.late, 99)
	}
	return report
}

func millis(histogram *hdrhistogram.Histogram, percentile float64) float64 {
	return float64(histogram.ValueAtPercentile(percentile)) / 1000
}
