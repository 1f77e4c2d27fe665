package steeple

import (
	"fmt"
	"sync/atomic"
)

// Metrics takes what the adapter counts. SPIRE's telemetry.Metrics is one. SPIRE's own wrapper counts and times the calls.
type Metrics interface {
	IncrCounter(key []string, val float32)
}

// counter is one number since the store was made.
type counter struct {
	value atomic.Uint64
	name  string
	sink  Metrics
}

func (c *counter) add() {
	c.value.Add(1)
	if c.sink != nil {
		c.sink.IncrCounter([]string{"datastore", "steeple", c.name}, 1)
	}
}

// counters say how calls went.
type counters struct {
	attempts, repeated, redirects, broken, gaveUp counter
}

func newCounters(sink Metrics) *counters {
	named := func(name string) counter { return counter{name: name, sink: sink} }
	return &counters{
		attempts: named("attempts"), repeated: named("repeated"), redirects: named("redirects"),
		broken: named("broken"), gaveUp: named("gave_up"),
	}
}

// Counters are numbers since the store was made. Under the same names, behind datastore and steeple, they go to the
// Metrics that the store was made with.
type Counters struct {
	// Attempts is how many requests were sent, repetitions included.
	Attempts uint64
	// Repeated is how many calls took more than one attempt.
	Repeated uint64
	// Redirects is how many attempts met a node that does not lead.
	Redirects uint64
	// Broken is how many attempts ended without an answer.
	Broken uint64
	// GaveUp is how many calls ended because time was up.
	GaveUp uint64
}

func (c *counters) read() Counters {
	return Counters{
		Attempts: c.attempts.value.Load(), Repeated: c.repeated.value.Load(), Redirects: c.redirects.value.Load(),
		Broken: c.broken.value.Load(), GaveUp: c.gaveUp.value.Load(),
	}
}

func (c Counters) String() string {
	return fmt.Sprintf("attempts=%d repeated=%d redirects=%d broken=%d gave_up=%d",
		c.Attempts, c.Repeated, c.Redirects, c.Broken, c.GaveUp)
}
