package steeple

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// While callers of all kinds go on, the leader is killed as a crash would, three times. Nobody may get an error, nothing
// may be done twice, and what a caller was told has to stay true.
func TestNobodyNoticesThatTheLeaderIsKilled(t *testing.T) {
	g := startGroup(t, 3)
	store, _ := g.store(t, "failover")
	other, _ := g.store(t, "failover")
	var stop atomic.Bool
	var work sync.WaitGroup
	var slowest atomic.Int64
	timed := func(do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		begun := time.Now()
		err := do(ctx)
		for elapsed := int64(time.Since(begun)); ; {
			longest := slowest.Load()
			if elapsed <= longest || slowest.CompareAndSwap(longest, elapsed) {
				return err
			}
		}
	}
	run := func(round func(number int) error) {
		work.Add(1)
		go func() {
			defer work.Done()
			for number := 0; !stop.Load(); number++ {
				if err := round(number); err != nil {
					t.Errorf("round %d: %v", number, err)
					return
				}
			}
		}()
	}

	var entries, agents atomic.Int64
	for writer := range 4 {
		run(func(number int) error {
			// The other server's adapter has to see it at once.
			var created *common.RegistrationEntry
			if err := timed(func(ctx context.Context) (err error) {
				created, err = store.CreateRegistrationEntry(ctx, &common.RegistrationEntry{
					EntryId: fmt.Sprintf("%d-%d", writer, number), ParentId: "spiffe://td/agent",
					SpiffeId:  fmt.Sprintf("spiffe://td/%d/%d", writer, number),
					Selectors: []*common.Selector{{Type: "unix", Value: "uid:1"}},
				})
				return err
			}); err != nil {
				return err
			}
			entries.Add(1)
			return timed(func(ctx context.Context) error {
				found, err := other.FetchRegistrationEntry(ctx, created.EntryId)
				if err == nil && found == nil {
					return fmt.Errorf("%s is acknowledged and not there", created.EntryId)
				}
				return err
			})
		})
	}
	// An attestation: a token must be used up exactly once, and the agent has to be there from then on.
	run(func(number int) error {
		token, agent := fmt.Sprint("token-", number), fmt.Sprint("spiffe://td/agent/", number)
		for _, step := range []func(context.Context) error{
			func(ctx context.Context) error {
				return store.CreateJoinToken(ctx, &datastore.JoinToken{Token: token, Expiry: time.Now().Add(time.Hour)})
			},
			func(ctx context.Context) error { return store.DeleteJoinToken(ctx, token) },
			func(ctx context.Context) error {
				_, err := store.CreateAttestedNode(ctx, &common.AttestedNode{
					SpiffeId: agent, AttestationDataType: "join_token", CertSerialNumber: "1",
					CertNotAfter: time.Now().Add(time.Hour).Unix(),
				})
				return err
			},
			func(ctx context.Context) error {
				found, err := other.FetchAttestedNode(ctx, agent)
				if err == nil && found == nil {
					return fmt.Errorf("the agent would be told that it is not attested")
				}
				return err
			},
			func(ctx context.Context) error {
				if err := other.DeleteJoinToken(ctx, token); status.Code(err) != codes.NotFound {
					return fmt.Errorf("a token was used twice: %v", err)
				}
				return nil
			},
		} {
			if err := timed(step); err != nil {
				return err
			}
		}
		agents.Add(1)
		return nil
	})
	// What SPIRE's health check asks.
	run(func(int) error {
		return timed(func(ctx context.Context) error {
			_, err := other.ListBundles(ctx, &datastore.ListBundlesRequest{})
			return err
		})
	})
	// What SPIRE's cache asks: events never have a hole.
	run(func(int) error {
		return timed(func(ctx context.Context) error {
			listed, err := other.ListRegistrationEntryEvents(ctx,
				&datastore.ListRegistrationEntryEventsRequest{DataConsistency: datastore.TolerateStale})
			if err != nil {
				return err
			}
			for index, event := range listed.Events {
				if event.EventID != uint(index+1) {
					return fmt.Errorf("event %d comes after %d others", event.EventID, index)
				}
			}
			return nil
		})
	})

	progress := func(what string) {
		before := entries.Load()
		require.Eventually(t, func() bool { return entries.Load() > before+50 || t.Failed() },
			30*time.Second, 10*time.Millisecond, "no progress %s", what)
	}
	for range 3 {
		progress("with three nodes")
		leader := g.leader(t, store)
		g.kill(leader)
		progress(fmt.Sprintf("without node %d", leader+1))
		g.start(t, leader)
	}
	stop.Store(true)
	work.Wait()

	count, err := store.CountRegistrationEntries(context.Background(), &datastore.CountRegistrationEntriesRequest{})
	require.NoError(t, err)
	require.EqualValues(t, entries.Load(), count)
	events, err := store.ListRegistrationEntryEvents(
		context.Background(), &datastore.ListRegistrationEntryEventsRequest{})
	require.NoError(t, err)
	require.Len(t, events.Events, int(entries.Load()), "something was done twice")
	t.Logf("%d entries, %d attestations, slowest call %s; %s; %s", entries.Load(), agents.Load(),
		time.Duration(slowest.Load()).Round(time.Millisecond), store.Counters(), other.Counters())
}

// A server that starts while the cluster has no leader waits for one.
func TestStartWaitsForALeader(t *testing.T) {
	g := startGroup(t, 3)
	_, _ = g.store(t, "default")
	g.kill(1)
	g.kill(2)
	time.AfterFunc(2*time.Second, func() { g.start(t, 1) })
	begun := time.Now()
	store, hook := g.store(t, "later")
	require.Greater(t, time.Since(begun), time.Second)
	require.Equal(t, "Connected to Steeple", hook.LastEntry().Message)
	require.Equal(t, true, hook.LastEntry().Data["encrypted"])
	count, err := store.CountBundles(context.Background())
	require.NoError(t, err)
	require.Zero(t, count)
}

// A renewed certificate is used without a restart, and one that is not known is refused with a clear text.
func TestACertificateThatIsNotKnownIsRefused(t *testing.T) {
	g := startGroup(t, 3)
	_, _ = g.store(t, "default")
	makeCertificates(t, g.certificates+"-others", 3)
	store := New(nullLogger())
	text := g.configuration("default", `startup_timeout = "2s"`)
	// The other authority does not vouch for these nodes.
	g.certificates += "-others"
	foreign := g.configuration("default", `startup_timeout = "2s"`)
	require.ErrorContains(t, store.Configure(context.Background(), foreign), "certificate")
	require.NoError(t, store.Configure(context.Background(), text))
	require.NoError(t, store.Close())
}
