package steeple

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Headers of answers, and what the one about errors says. docs/formats/wire.md has all of them.
const (
	headerRevision      = "steeple-revision"
	headerError         = "steeple-error"
	headerLeaderAddress = "steeple-leader-address"

	kindNone           = ""
	kindRefused        = "refused"
	kindOutcomeUnknown = "outcome-unknown"
	kindOverloaded     = "overloaded"
	kindUnavailable    = "unavailable"
	kindNotLeader      = "not-leader"
)

// Errors of SPIRE's datastore that are no gRPC statuses.
var (
	errEventBounds        = errors.New("datastore-sql: can't set both greater and less than event id")
	errTokenAndExpiry     = errors.New("token and expiry are required")
	errMissingNode        = errors.New("datastore-sql: invalid request: missing attested node")
	errPageSize           = status.Error(codes.InvalidArgument, "cannot paginate with pagesize = 0")
	errEntrySelectors     = status.Error(codes.InvalidArgument, "cannot list by empty selector set")
	errNodeSelectors      = status.Error(codes.InvalidArgument, "cannot list by empty selectors set")
	errRequestMissing     = status.Error(codes.InvalidArgument, "request is required")
	errRelationshipNil    = status.Error(codes.InvalidArgument, "federation relationship is nil")
	errTrustDomain        = status.Error(codes.InvalidArgument, "trust domain is required")
	errBundleEndpointURL  = status.Error(codes.InvalidArgument, "bundle endpoint URL is required")
	errBundleEndpointID   = status.Error(codes.InvalidArgument, "bundle endpoint SPIFFE ID is required")
	errJournal            = status.Error(codes.InvalidArgument, "ca journal is required")
	errJournalAuthority   = status.Error(codes.InvalidArgument, "active X509 authority ID is required")
	errNotConfigured      = status.Error(codes.FailedPrecondition, "datastore is not configured")
	errAlreadyConfigured  = status.Error(codes.FailedPrecondition, "datastore is configured already")
	errClosed             = status.Error(codes.FailedPrecondition, "datastore is closed")
	errAnswerIncomplete   = status.Error(codes.Internal, "the node's answer is incomplete")
	errCountOutOfRange    = status.Error(codes.Internal, "the node's count is negative")
	errDurationOutOfRange = status.Error(codes.InvalidArgument, "an age must not be negative")
)

// failure is what became of one attempt that brought no answer.
type failure struct {
	status *status.Status
	// kind is what the node says itself; empty for refusals of the datastore, and for what is between.
	kind string
	// leader is where the node sends us, if it does.
	leader string
	// timedOut tells that the node took too long.
	timedOut bool
}

func failureOf(err error, header, trailer metadata.MD) *failure {
	failed := &failure{status: status.Convert(err)}
	text := func(name string) string {
		for _, from := range []metadata.MD{trailer, header} {
			if values := from.Get(name); len(values) > 0 {
				return values[0]
			}
		}
		return ""
	}
	failed.kind = text(headerError)
	if failed.kind == kindNotLeader {
		failed.leader = text(headerLeaderAddress)
	}
	return failed
}

func unavailable(format string, arguments ...any) *failure {
	return &failure{status: status.Newf(codes.Unavailable, format, arguments...), kind: kindUnavailable}
}

// broken says that nothing is known of the node but that no answer came from it. Transports make up statuses when a
// connection breaks under a call; a refusal on purpose under one of their codes is marked.
func (failed *failure) broken() bool {
	if failed.kind != kindNone {
		return false
	}
	switch failed.status.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
		return true
	case codes.Internal:
		return !failed.unsendable()
	default:
		return strings.HasPrefix(failed.status.Message(), "stream terminated by RST_STREAM")
	}
}

// unsendable says that the request cannot be encoded, such as a text that is no UTF-8.
func (failed *failure) unsendable() bool {
	return strings.HasPrefix(failed.status.Message(), "grpc: error while marshaling")
}

// transient says that another attempt may do better.
func (failed *failure) transient() bool {
	switch failed.kind {
	case kindNone:
		return failed.broken()
	case kindOutcomeUnknown, kindOverloaded, kindUnavailable, kindNotLeader:
		return true
	default:
		return false
	}
}

// open says that the attempt may have changed something.
func (failed *failure) open() bool {
	return failed.kind == kindOutcomeUnknown || failed.broken()
}

// final is the error for a failure that stays. What the datastore refuses has its code and text, and nothing else.
func (failed *failure) final() error {
	if failed.unsendable() {
		return status.Error(codes.InvalidArgument, failed.status.Message())
	}
	return status.Error(failed.status.Code(), failed.status.Message())
}

func (failed *failure) String() string {
	return fmt.Sprintf("%s: %s", failed.status.Code(), failed.status.Message())
}

// contextError is the end of a call because its caller's context ended. SPIRE looks for the context's error as well as
// for the status.
type contextError struct {
	status *status.Status
	cause  error
}

func newContextError(cause error, last *failure) error {
	message := cause.Error()
	if last != nil {
		message = fmt.Sprintf("%s; last attempt: %s", message, last)
	}
	code := codes.Canceled
	if errors.Is(cause, context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	return &contextError{status: status.New(code, message), cause: cause}
}

func (e *contextError) Error() string              { return e.status.Err().Error() }
func (e *contextError) GRPCStatus() *status.Status { return e.status }
func (e *contextError) Unwrap() error              { return e.cause }

// gaveUp is the end of a call for which time ran out.
func gaveUp(last *failure, open bool) error {
	message := "no node could serve in time"
	if open {
		message = "whether this was carried out is unknown, no node could tell in time"
	}
	if last != nil {
		message = fmt.Sprintf("%s; last attempt: %s", message, last)
	}
	return status.Error(codes.Unavailable, message)
}

func revisionOf(header metadata.MD) uint64 {
	values := header.Get(headerRevision)
	if len(values) == 0 {
		return 0
	}
	revision, err := strconv.ParseUint(values[0], 10, 64)
	if err != nil {
		return 0
	}
	return revision
}
