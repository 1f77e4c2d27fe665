package steeple

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"steeple.internal/adapters/spire/internal/wire/adminv1"
	"steeple.internal/adapters/spire/internal/wire/commonv1"
	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// fake is a node that answers as a test tells it to.
type fake struct {
	spirev1.UnimplementedDatastoreServer
	adminv1.UnimplementedAdminServer

	address string
	cluster string
	members []*fake

	lock sync.Mutex
	// requests are the ids of mutations, and minimum revisions the conditions of reads.
	requests [][]byte
	reads    []*commonv1.ReadContext
	calls    atomic.Int32

	deleteToken func(context.Context) error
	fetchNode   func(context.Context) (*spirev1.AttestedNode, error)
	listBundles func(*spirev1.Pagination) (*spirev1.ListBundlesResponse, error)
	listEntries func(int32, grpc.ServerStreamingServer[spirev1.StreamRegistrationEntriesResponse]) error
}

func startFake(t *testing.T) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fake{address: listener.Addr().String(), cluster: "00"}
	f.members = []*fake{f}
	server := grpc.NewServer()
	spirev1.RegisterDatastoreServer(server, f)
	adminv1.RegisterAdminServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return f
}

func (f *fake) OpenNamespace(
	_ context.Context, request *adminv1.OpenNamespaceRequest,
) (*adminv1.OpenNamespaceResponse, error) {
	return &adminv1.OpenNamespaceResponse{Namespace: &adminv1.Namespace{Name: request.Name}}, nil
}

func (f *fake) Status(context.Context, *adminv1.StatusRequest) (*adminv1.StatusResponse, error) {
	return &adminv1.StatusResponse{ClusterId: f.cluster, Version: "fake"}, nil
}

func (f *fake) ClusterStatus(
	context.Context, *adminv1.ClusterStatusRequest,
) (*adminv1.ClusterStatusResponse, error) {
	answer := &adminv1.ClusterStatusResponse{ClusterId: f.cluster, LeaderNodeId: 1}
	for index, member := range f.members {
		answer.Members = append(answer.Members, &adminv1.ClusterMember{
			NodeId: uint64(index + 1), ClientAddress: member.address,
		})
	}
	return answer, nil
}

func (f *fake) DeleteJoinToken(
	ctx context.Context, request *spirev1.DeleteJoinTokenRequest,
) (*spirev1.DeleteJoinTokenResponse, error) {
	f.lock.Lock()
	f.requests = append(f.requests, request.Context.RequestId)
	f.lock.Unlock()
	f.calls.Add(1)
	if err := f.deleteToken(ctx); err != nil {
		return nil, err
	}
	return &spirev1.DeleteJoinTokenResponse{}, revision(ctx, 7)
}

func (f *fake) FetchAttestedNode(
	ctx context.Context, _ *spirev1.FetchAttestedNodeRequest,
) (*spirev1.FetchAttestedNodeResponse, error) {
	f.calls.Add(1)
	node, err := f.fetchNode(ctx)
	if err != nil {
		return nil, err
	}
	return &spirev1.FetchAttestedNodeResponse{Node: node}, revision(ctx, 9)
}

func (f *fake) GetNodeSelectors(
	ctx context.Context, request *spirev1.GetNodeSelectorsRequest,
) (*spirev1.GetNodeSelectorsResponse, error) {
	f.lock.Lock()
	f.reads = append(f.reads, request.Context)
	f.lock.Unlock()
	return &spirev1.GetNodeSelectorsResponse{}, revision(ctx, 11)
}

func (f *fake) ListBundles(
	_ context.Context, request *spirev1.ListBundlesRequest,
) (*spirev1.ListBundlesResponse, error) {
	return f.listBundles(request.Pagination)
}

func (f *fake) StreamRegistrationEntries(
	_ *spirev1.StreamRegistrationEntriesRequest,
	answers grpc.ServerStreamingServer[spirev1.StreamRegistrationEntriesResponse],
) error {
	return f.listEntries(f.calls.Add(1), answers)
}

func revision(ctx context.Context, number int) error {
	return grpc.SetHeader(ctx, metadata.Pairs(headerRevision, fmt.Sprint(number)))
}

// own is a status of Steeple's own.
func own(ctx context.Context, code codes.Code, kind string, more ...string) error {
	pairs := append([]string{headerError, kind}, more...)
	if err := grpc.SetTrailer(ctx, metadata.Pairs(pairs...)); err != nil {
		return err
	}
	return status.Error(code, kind)
}

func connected(t *testing.T, nodes []*fake, more ...string) *DataStore {
	t.Helper()
	var endpoints []string
	for _, node := range nodes {
		endpoints = append(endpoints, fmt.Sprintf("%q", node.address))
	}
	lines := append([]string{"endpoints = [" + strings.Join(endpoints, ", ") + "]"}, more...)
	log, _ := test.NewNullLogger()
	store := New(log)
	require.NoError(t, store.Configure(context.Background(), strings.Join(lines, "\n")))
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func TestARequestKeepsItsNumberUntilItIsAnswered(t *testing.T) {
	answers := []func(context.Context) error{
		func(ctx context.Context) error { return own(ctx, codes.Aborted, kindOutcomeUnknown) },
		func(ctx context.Context) error { return own(ctx, codes.Unavailable, kindOverloaded) },
		func(context.Context) error { return status.Error(codes.Unknown, "an answer that got lost") },
		func(context.Context) error { return status.Error(codes.Internal, "another one") },
		func(context.Context) error { return status.Error(codes.Unavailable, "the connection broke") },
		func(context.Context) error { return nil },
	}
	node := startFake(t)
	node.deleteToken = func(ctx context.Context) error { return answers[node.calls.Load()-1](ctx) }
	store := connected(t, []*fake{node})
	require.NoError(t, store.DeleteJoinToken(context.Background(), "token"))
	require.Len(t, node.requests, len(answers))
	require.Len(t, node.requests[0], requestIDBytes)
	for _, id := range node.requests {
		require.Equal(t, node.requests[0], id)
	}
	require.EqualValues(t, 1, store.Counters().Repeated)
	require.EqualValues(t, 3, store.Counters().Broken)

	node.deleteToken = func(context.Context) error { return nil }
	require.NoError(t, store.DeleteJoinToken(context.Background(), "token"))
	require.NotEqual(t, node.requests[0], node.requests[len(answers)], "another call has another number")
}

func TestTheDatastoresRefusalsAreFinal(t *testing.T) {
	node := startFake(t)
	store := connected(t, []*fake{node})
	for code, refuse := range map[codes.Code]func(context.Context) error{
		codes.NotFound:           func(context.Context) error { return status.Error(codes.NotFound, "text") },
		codes.PermissionDenied:   func(context.Context) error { return status.Error(codes.PermissionDenied, "text") },
		codes.FailedPrecondition: func(context.Context) error { return status.Error(codes.FailedPrecondition, "text") },
		codes.Unknown: func(ctx context.Context) error {
			_ = own(ctx, codes.Unknown, kindRefused)
			return status.Error(codes.Unknown, "text")
		},
		codes.Internal: func(ctx context.Context) error {
			_ = own(ctx, codes.Internal, kindRefused)
			return status.Error(codes.Internal, "text")
		},
		codes.InvalidArgument: func(ctx context.Context) error {
			_ = own(ctx, codes.InvalidArgument, "limit-exceeded")
			return status.Error(codes.InvalidArgument, "text")
		},
	} {
		before := node.calls.Load()
		node.deleteToken = refuse
		err := store.DeleteJoinToken(context.Background(), "token")
		require.Equal(t, status.Error(code, "text").Error(), err.Error())
		require.Equal(t, code, status.Code(err))
		require.EqualValues(t, 1, node.calls.Load()-before, "%s was repeated", code)
	}
	err := store.DeleteJoinToken(context.Background(), "no \xff text")
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestTheLeaderIsFollowedWhereverItIs(t *testing.T) {
	told, leader := startFake(t), startFake(t)
	told.members, leader.members = []*fake{leader, told}, []*fake{leader, told}
	// At first nobody names it, so that the hint alone leads there.
	told.members = []*fake{told}
	told.deleteToken = func(ctx context.Context) error {
		return own(ctx, codes.Unavailable, kindNotLeader, headerLeaderAddress, leader.address)
	}
	leader.deleteToken = func(context.Context) error { return nil }
	store := connected(t, []*fake{told})
	for range 3 {
		require.NoError(t, store.DeleteJoinToken(context.Background(), "token"))
	}
	require.EqualValues(t, 1, told.calls.Load(), "the leader is remembered")
	require.EqualValues(t, 3, leader.calls.Load())
	require.EqualValues(t, 1, store.Counters().Redirects)
	require.Equal(t, told.requests[0], leader.requests[0])
}

func TestANodeOfAnotherClusterIsNotAsked(t *testing.T) {
	told, foreign := startFake(t), startFake(t)
	foreign.cluster = "ff"
	foreign.deleteToken = func(context.Context) error { return nil }
	told.deleteToken = func(ctx context.Context) error {
		if told.calls.Load() > 3 {
			return nil
		}
		return own(ctx, codes.Unavailable, kindNotLeader, headerLeaderAddress, foreign.address)
	}
	store := connected(t, []*fake{told})
	require.NoError(t, store.DeleteJoinToken(context.Background(), "token"))
	require.Zero(t, foreign.calls.Load())
	require.EqualValues(t, 4, told.calls.Load())
}

func TestTimeRunsOutAsUnavailable(t *testing.T) {
	node := startFake(t)
	node.fetchNode = func(ctx context.Context) (*spirev1.AttestedNode, error) {
		return nil, own(ctx, codes.Unavailable, kindUnavailable)
	}
	store := connected(t, []*fake{node}, `call_timeout = "300ms"`)
	found, err := store.FetchAttestedNode(context.Background(), "spiffe://td/agent")
	require.Nil(t, found)
	require.Equal(t, codes.Unavailable, status.Code(err), "doubt is no absence: %v", err)
	require.ErrorContains(t, err, "last attempt: Unavailable: unavailable")
	require.Greater(t, node.calls.Load(), int32(2))
	require.EqualValues(t, 1, store.Counters().GaveUp)

	node.deleteToken = func(ctx context.Context) error { return own(ctx, codes.Aborted, kindOutcomeUnknown) }
	err = store.DeleteJoinToken(context.Background(), "token")
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, "whether this was carried out is unknown")
}

func TestTheCallersEndIsRecognised(t *testing.T) {
	node := startFake(t)
	node.fetchNode = func(ctx context.Context) (*spirev1.AttestedNode, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	store := connected(t, []*fake{node})

	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := store.FetchAttestedNode(ctx, "id")
	require.Equal(t, codes.Canceled, status.Code(err))
	require.True(t, errors.Is(err, context.Canceled))

	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = store.FetchAttestedNode(ctx, "id")
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	require.True(t, errors.Is(err, context.DeadlineExceeded))
}

func TestANodeThatHangsIsLeftForAnother(t *testing.T) {
	frozen, well := startFake(t), startFake(t)
	both := []*fake{frozen, well}
	frozen.members, well.members = both, both
	frozen.fetchNode = func(ctx context.Context) (*spirev1.AttestedNode, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	well.fetchNode = func(context.Context) (*spirev1.AttestedNode, error) {
		return &spirev1.AttestedNode{SpiffeId: "id"}, nil
	}
	store := connected(t, both, `call_timeout = "10s"`)
	begun := time.Now()
	found, err := store.FetchAttestedNode(context.Background(), "id")
	require.NoError(t, err)
	require.Equal(t, &common.AttestedNode{SpiffeId: "id"}, found)
	require.EqualValues(t, 1, frozen.calls.Load())
	require.Less(t, time.Since(begun), 5*time.Second)
}

func TestStaleReadsAreNeverBehindWhatWasSeen(t *testing.T) {
	node := startFake(t)
	node.fetchNode = func(context.Context) (*spirev1.AttestedNode, error) { return nil, nil }
	store := connected(t, []*fake{node})
	stale := func() {
		_, err := store.GetNodeSelectors(context.Background(), "id", datastore.TolerateStale)
		require.NoError(t, err)
	}
	// Nothing is known yet of how fresh anything is, so the first one is current.
	stale()
	stale()
	found, err := store.FetchAttestedNode(context.Background(), "id")
	require.NoError(t, err)
	require.Nil(t, found)
	c, err := store.use()
	require.NoError(t, err)
	c.freshLock.Lock()
	c.freshAt = c.freshAt.Add(-stalenessMax)
	c.freshLock.Unlock()
	stale()

	require.Len(t, node.reads, 3)
	current, tolerant := commonv1.Consistency_CONSISTENCY_REQUIRE_CURRENT, commonv1.Consistency_CONSISTENCY_TOLERATE_STALE
	require.Equal(t, current, node.reads[0].Consistency)
	require.Equal(t, tolerant, node.reads[1].Consistency)
	require.EqualValues(t, 11, node.reads[1].MinRevision)
	require.Equal(t, current, node.reads[2].Consistency, "what was seen is too old")
}

func TestALongListThatBreaksOffBeginsAnew(t *testing.T) {
	node := startFake(t)
	node.listEntries = func(
		attempt int32, answers grpc.ServerStreamingServer[spirev1.StreamRegistrationEntriesResponse],
	) error {
		for part := range 3 {
			if attempt == 1 && part == 2 {
				return status.Error(codes.Unavailable, "the connection broke")
			}
			if err := answers.Send(&spirev1.StreamRegistrationEntriesResponse{
				Entries: []*spirev1.RegistrationEntry{{EntryId: fmt.Sprint(part)}},
			}); err != nil {
				return err
			}
		}
		return nil
	}
	store := connected(t, []*fake{node})
	listed, err := store.ListRegistrationEntries(
		context.Background(), &datastore.ListRegistrationEntriesRequest{})
	require.NoError(t, err)
	require.Equal(t, []*common.RegistrationEntry{{EntryId: "0"}, {EntryId: "1"}, {EntryId: "2"}}, listed.Entries)
	require.Nil(t, listed.Pagination)
	require.EqualValues(t, 2, node.calls.Load())
}

func TestAListThatDoesNotFitIsPutTogetherFromPages(t *testing.T) {
	node := startFake(t)
	const bundles = 2*bundlesInOnePage + 1
	node.listBundles = func(page *spirev1.Pagination) (*spirev1.ListBundlesResponse, error) {
		if page == nil {
			return nil, status.Error(codes.ResourceExhausted, "the answer is too large")
		}
		var first int
		_, _ = fmt.Sscan(page.Token, &first)
		answer := &spirev1.ListBundlesResponse{Pagination: &spirev1.Pagination{}}
		for number := first + 1; number <= min(first+int(page.PageSize), bundles); number++ {
			answer.Bundles = append(answer.Bundles, &spirev1.Bundle{TrustDomainId: fmt.Sprint(number)})
			answer.Pagination.Token = fmt.Sprint(number)
		}
		return answer, nil
	}
	store := connected(t, []*fake{node})
	listed, err := store.ListBundles(context.Background(), &datastore.ListBundlesRequest{})
	require.NoError(t, err)
	require.Len(t, listed.Bundles, bundles)
	require.Equal(t, fmt.Sprint(bundles), listed.Bundles[bundles-1].TrustDomainId)
	require.Nil(t, listed.Pagination)
}

func TestWhatIsRefusedBeforeAnythingIsSent(t *testing.T) {
	log, _ := test.NewNullLogger()
	store := New(log)
	require.NoError(t, store.Close())
	ctx := context.Background()
	empty, zero := &datastore.BySelectors{}, &datastore.Pagination{}

	_, err := store.ListBundles(ctx, &datastore.ListBundlesRequest{Pagination: zero})
	require.Equal(t, errPageSize, err)
	_, err = store.ListRegistrationEntries(ctx,
		&datastore.ListRegistrationEntriesRequest{Pagination: zero, BySelectors: empty})
	require.Equal(t, errPageSize, err, "the page comes first")
	_, err = store.ListRegistrationEntries(ctx, &datastore.ListRegistrationEntriesRequest{BySelectors: empty})
	require.Equal(t, errEntrySelectors, err)
	_, err = store.CountRegistrationEntries(ctx, &datastore.CountRegistrationEntriesRequest{BySelectors: empty})
	require.Equal(t, errEntrySelectors, err)
	_, err = store.ListAttestedNodes(ctx, &datastore.ListAttestedNodesRequest{BySelectorMatch: empty})
	require.Equal(t, errNodeSelectors, err)
	_, err = store.CountAttestedNodes(ctx, &datastore.CountAttestedNodesRequest{BySelectorMatch: empty})
	require.Equal(t, errNodeSelectors, err)
	_, err = store.ListRegistrationEntryEvents(ctx,
		&datastore.ListRegistrationEntryEventsRequest{GreaterThanEventID: 1, LessThanEventID: 2})
	require.EqualError(t, err, "datastore-sql: can't set both greater and less than event id")
	_, err = store.ListAttestedNodeEvents(ctx,
		&datastore.ListAttestedNodeEventsRequest{GreaterThanEventID: 1, LessThanEventID: 2})
	require.EqualError(t, err, "datastore-sql: can't set both greater and less than event id")
	require.EqualError(t, store.CreateJoinToken(ctx, nil), "token and expiry are required")
	require.EqualError(t, store.CreateJoinToken(ctx, &datastore.JoinToken{Token: "t"}), "token and expiry are required")
	_, err = store.CreateAttestedNode(ctx, nil)
	require.EqualError(t, err, "datastore-sql: invalid request: missing attested node")
	_, err = store.SetCAJournal(ctx, nil)
	require.Equal(t, errJournal, err)
	_, err = store.FetchCAJournal(ctx, "")
	require.Equal(t, errJournalAuthority, err)
	_, err = store.CreateFederationRelationship(ctx, nil)
	require.Equal(t, errRelationshipNil, err)
	_, err = store.UpdateFederationRelationship(ctx, &datastore.FederationRelationship{}, nil)
	require.Equal(t, errTrustDomain, err)
	_, err = store.ListBundles(ctx, nil)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}
