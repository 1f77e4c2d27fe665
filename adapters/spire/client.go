package steeple

import (
	"context"
	"crypto/rand"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"steeple.internal/adapters/spire/internal/wire/commonv1"
)

const (
	// messageBytesMax is the limit that both sides of the protocol have.
	messageBytesMax = 64 << 20
	// pauseMin and pauseMax limit the pause between attempts, and electionPauseMax the pause while a group elects its
	// leader: elections are over soon, and being late for the end of one is a pause in writing.
	pauseMin         = 20 * time.Millisecond
	pauseMax         = 500 * time.Millisecond
	electionPauseMax = 100 * time.Millisecond
	// patienceMin and patienceMax limit how long one node may take before another is asked.
	patienceMin   = 500 * time.Millisecond
	patienceMax   = 3 * time.Second
	patienceShare = 5
	// atOnceMax is how many attempts follow each other without a pause: enough to ask every node and follow a hint.
	atOnceMax = 4
	// repeatedMax is how long a mutation that may have been carried out is repeated. Nodes remember request ids for a
	// minute at the least; behind that a repetition could be taken for a new mutation.
	repeatedMax = 45 * time.Second
	// stalenessMax limits how old a stale answer is; SPIRE's suite allows a second.
	stalenessMax = 500 * time.Millisecond
	// slowCall is how long a call has to take for its repetitions to be worth a line in the log.
	slowCall = time.Second

	requestIDBytes = 16
)

// client sends requests until they are answered.
type client struct {
	cluster     *cluster
	namespace   string
	callTimeout time.Duration
	log         logrus.FieldLogger
	counters    *counters

	// seen is the newest revision of any answer: later answers must not be older.
	seen atomic.Uint64
	// freshLock guards freshAt: everything acknowledged before it is part of what seen stands for.
	freshLock sync.Mutex
	freshAt   time.Time
}

// dialer makes connections that notice a dead node before the caller's patience ends.
func dialer(files *tlsFiles) func(string) (*grpc.ClientConn, error) {
	var transport credentials.TransportCredentials = insecure.NewCredentials()
	if files != nil {
		transport = fileCredentials{files: files}
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(messageBytesMax), grpc.MaxCallSendMsgSize(messageBytesMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		// Repeating is this package's business, and so is choosing the node.
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		// A store is reached directly, whatever proxy the environment names.
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		grpc.WithUserAgent("steeple-spire-adapter/" + Version),
	}
	return func(address string) (*grpc.ClientConn, error) {
		return grpc.NewClient("dns:///"+address, options...)
	}
}

// requestContext names the data set, and a mutation: all repetitions of it have the same number, and are carried out
// once.
func (c *client) requestContext() (*commonv1.RequestContext, error) {
	id, err := newRequestID()
	if err != nil {
		return nil, err
	}
	return &commonv1.RequestContext{Namespace: c.namespace, RequestId: id}, nil
}

func newRequestID() ([]byte, error) {
	id := make([]byte, requestIDBytes)
	if _, err := rand.Read(id); err != nil {
		return nil, status.Errorf(codes.Internal, "no random number for a request: %s", err)
	}
	return id, nil
}

// currentContext asks for everything acknowledged before.
func (c *client) currentContext() *commonv1.ReadContext {
	return &commonv1.ReadContext{
		Namespace: c.namespace, Consistency: commonv1.Consistency_CONSISTENCY_REQUIRE_CURRENT,
	}
}

// staleContext asks for what the nearest node has, but never for less than what was seen; and for everything when that
// is too long ago.
func (c *client) staleContext() (*commonv1.ReadContext, route) {
	c.freshLock.Lock()
	fresh := !c.freshAt.IsZero() && time.Since(c.freshAt) < stalenessMax
	c.freshLock.Unlock()
	if !fresh {
		return c.currentContext(), routeCurrent
	}
	return &commonv1.ReadContext{
		Namespace:   c.namespace,
		Consistency: commonv1.Consistency_CONSISTENCY_TOLERATE_STALE,
		MinRevision: c.seen.Load(),
	}, routeAny
}

// see remembers the revision of an answer. current tells that the answer reflects everything acknowledged before
// asked, and seenBefore what had been seen by then: less than that means that the group was restored from a backup.
func (c *client) see(revision uint64, current bool, asked time.Time, seenBefore uint64) {
	if revision == 0 {
		return
	}
	if current && revision < seenBefore {
		if c.seen.CompareAndSwap(seenBefore, revision) {
			c.log.WithFields(logrus.Fields{"seen": seenBefore, "found": revision}).
				Warn("Steeple went back in time: was it restored from a backup?")
		}
		return
	}
	for {
		seen := c.seen.Load()
		if revision <= seen || c.seen.CompareAndSwap(seen, revision) {
			break
		}
	}
	if current {
		c.freshLock.Lock()
		if asked.After(c.freshAt) {
			c.freshAt = asked
		}
		c.freshLock.Unlock()
	}
}

// call is one request, with what is to be known for repeating it.
type call struct {
	method  string
	request proto.Message
	to      route
	// mutation: an attempt that fails midway may have changed something.
	mutation bool
	// current: the answer reflects everything acknowledged before the call.
	current bool
}

// mutate sends a mutation until it is answered.
func (c *client) mutate(ctx context.Context, method string, request, answer proto.Message) error {
	return c.unary(ctx, call{method: method, request: request, to: routeLeader, mutation: true}, answer)
}

// read sends a request that has to be answered with everything acknowledged before.
func (c *client) read(ctx context.Context, method string, request, answer proto.Message) error {
	return c.unary(ctx, call{method: method, request: request, to: routeCurrent, current: true}, answer)
}

func (c *client) unary(ctx context.Context, call call, answer proto.Message) error {
	return c.repeat(ctx, call, func(ctx context.Context, n *node, patience time.Duration, _ bool) *failure {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		asked, seenBefore := time.Now(), c.seen.Load()
		var header, trailer metadata.MD
		proto.Reset(answer)
		err := n.connection.Invoke(ctx, call.method, call.request, answer, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			failed := failureOf(err, header, trailer)
			failed.timedOut = failed.broken() && ctx.Err() != nil
			return failed
		}
		c.see(revisionOf(header), call.current, asked, seenBefore)
		return nil
	})
}

// stream sends a request and hands over each message of the answer; begin is called before the first of each attempt.
// However long an answer is, only silence ends it early.
func stream[Message any, Pointer interface {
	*Message
	proto.Message
}](ctx context.Context, c *client, call call, begin func(), each func(Pointer)) error {
	return c.repeat(ctx, call, func(ctx context.Context, n *node, patience time.Duration, others bool) *failure {
		begin()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if !others {
			patience = max(patience, patienceMax)
		}
		silence := time.AfterFunc(patience, cancel)
		defer silence.Stop()
		asked, seenBefore := time.Now(), c.seen.Load()
		opened, err := n.connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, call.method)
		if err == nil {
			err = send(opened, call.request)
		}
		for err == nil {
			message := Pointer(new(Message))
			if err = opened.RecvMsg(message); err == nil {
				silence.Reset(patience)
				each(message)
			}
		}
		if err == io.EOF {
			if header, err := opened.Header(); err == nil {
				c.see(revisionOf(header), call.current, asked, seenBefore)
			}
			return nil
		}
		var header, trailer metadata.MD
		if opened != nil {
			trailer = opened.Trailer()
			header, _ = opened.Header()
		}
		failed := failureOf(err, header, trailer)
		failed.timedOut = failed.broken() && ctx.Err() != nil
		return failed
	})
}

func send(opened grpc.ClientStream, request proto.Message) error {
	if err := opened.SendMsg(request); err != nil && err != io.EOF {
		return err
	}
	return opened.CloseSend()
}

// attempt asks one node, which may take so long. others tells that there are other nodes to turn to.
type attempt func(ctx context.Context, n *node, patience time.Duration, others bool) *failure

// repeat makes attempts until one succeeds, one fails for good, or time is up.
func (c *client) repeat(ctx context.Context, call call, try attempt) error {
	begun := time.Now()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = begun.Add(c.callTimeout)
	}
	patience := min(max(time.Until(deadline)/patienceShare, patienceMin), patienceMax)
	pauses := pauses{next: pauseMin, nextInElection: pauseMin}
	attempts, timeouts, atOnce, open := 0, 0, 0, false
	for {
		if c.cluster.life.Err() != nil {
			return errClosed
		}
		attempts++
		c.counters.attempts.add()
		others := call.to != routeTold && c.cluster.size() > 1
		turn := time.Until(deadline)
		if others {
			turn = min(patience<<min(timeouts, 8), turn)
		}
		failed, elsewhere := c.once(ctx, call.to, try, turn, others)
		if failed == nil {
			c.done(call, attempts, begun, nil)
			return nil
		}
		if !failed.transient() {
			c.done(call, attempts, begun, nil)
			return failed.final()
		}
		if ctx.Err() != nil {
			return newContextError(ctx.Err(), failed)
		}
		if failed.open() {
			open = true
		}
		if call.mutation && open {
			deadline = earlier(deadline, begun.Add(repeatedMax))
		}
		if failed.timedOut {
			timeouts++
		}
		var pause time.Duration
		if elsewhere && atOnce < atOnceMax {
			atOnce++
		} else {
			atOnce = 0
			pause = pauses.after(failed)
		}
		if !time.Now().Add(pause).Before(deadline) {
			c.done(call, attempts, begun, failed)
			if _, own := ctx.Deadline(); own && !time.Now().Before(deadline) {
				return newContextError(context.DeadlineExceeded, failed)
			}
			return gaveUp(failed, call.mutation && open)
		}
		if err := wait(ctx, pause); err != nil {
			return newContextError(err, failed)
		}
	}
}

// once asks one node, and remembers how it did.
func (c *client) once(ctx context.Context, to route, try attempt, turn time.Duration, others bool) (*failure, bool) {
	c.cluster.discoverWhenDue()
	n := c.cluster.pick(to, nil)
	if n == nil {
		return unavailable("no node is known"), false
	}
	if failed := c.cluster.check(ctx, n); failed != nil {
		return failed, c.cluster.unusable(to, n)
	}
	failed := try(ctx, n, max(turn, time.Millisecond), others)
	if failed == nil {
		c.cluster.succeeded(to, n)
		return nil, false
	}
	if ctx.Err() != nil && failed.broken() {
		// The caller went away; that says nothing about the node.
		return failed, false
	}
	return failed, c.cluster.failed(to, n, failed)
}

// done says in the log what an operator would like to know of a call that did not go smoothly.
func (c *client) done(call call, attempts int, begun time.Time, last *failure) {
	if attempts > 1 {
		c.counters.repeated.add()
	}
	elapsed := time.Since(begun)
	fields := logrus.Fields{"call": call.method, "attempts": attempts, "elapsed": elapsed.Round(time.Millisecond).String()}
	switch {
	case last != nil:
		c.counters.gaveUp.add()
		c.log.WithFields(fields).WithField("reason", last.String()).Warn("Gave up a datastore call")
	case attempts > 1 && elapsed >= slowCall:
		c.log.WithFields(fields).Info("A datastore call waited for the cluster")
	}
}

// pauses between attempts double up to a limit.
type pauses struct {
	next, nextInElection time.Duration
}

func (p *pauses) after(failed *failure) time.Duration {
	whole, limit := &p.next, pauseMax
	if failed.kind == kindNotLeader || failed.kind == kindOutcomeUnknown {
		// Leadership moves.
		whole, limit = &p.nextInElection, electionPauseMax
	}
	pause := *whole
	*whole = min(2*pause, limit)
	// Drawn from the upper half, so that callers which failed together come back apart.
	return pause/2 + mathrand.N(pause/2+1)
}

func wait(ctx context.Context, pause time.Duration) error {
	if pause == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
