// Package steeple is a SPIRE datastore that keeps its records in a Steeple cluster. It takes the place of SPIRE's SQL
// datastore inside a spire-server; README.md says how such a server is built.
//
// The package keeps no records itself: SPIRE has caches of its own. What it does is conversion, the checks that SPIRE
// expects before anything is sent, and finding a node that answers: the leader for what changes something, any node that
// confirms through the leader for reads that have to be current. A mutation has a random number that stays the same over
// all attempts, so it is carried out once whatever happens on the way.
package steeple

import (
	"context"
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/spiffe/spire/pkg/server/datastore"

	"steeple.internal/adapters/spire/internal/wire/adminv1"
	"steeple.internal/adapters/spire/internal/wire/commonv1"
)

// Version of the adapter; it speaks version 1 of the protocol.
const Version = "0.1.0"

// PluginName is the name of the block that selects this datastore in a server built from patched source. A server that
// is built with the overlay keeps SPIRE's name for its datastore, "sql".
const PluginName = "steeple"

var _ datastore.DataStore = (*DataStore)(nil)

// DataStore is SPIRE's datastore over Steeple. It may be used by many goroutines.
type DataStore struct {
	log      logrus.FieldLogger
	counters *counters

	lock   sync.RWMutex
	client *client
	closed bool
}

// Option changes how a store behaves.
type Option func(*DataStore)

// WithMetrics sends the adapter's own counters there as well.
func WithMetrics(metrics Metrics) Option {
	return func(store *DataStore) { store.counters = newCounters(metrics) }
}

// New makes a store that knows nothing yet; Configure connects it.
func New(log logrus.FieldLogger, options ...Option) *DataStore {
	store := &DataStore{log: log, counters: newCounters(nil)}
	for _, option := range options {
		option(store)
	}
	return store
}

// Configure connects the store to the cluster that the text names, and waits until the cluster has a leader and the
// namespace exists.
func (store *DataStore) Configure(ctx context.Context, text string) error {
	checked, faults := parseConfiguration(text)
	if len(faults) > 0 {
		return fmt.Errorf("steeple: %w", faults[0])
	}
	store.lock.Lock()
	defer store.lock.Unlock()
	switch {
	case store.closed:
		return errClosed
	case store.client != nil:
		return errAlreadyConfigured
	}
	connected, err := connect(ctx, checked, store.log, store.counters)
	if err != nil {
		return err
	}
	store.client = connected
	return nil
}

func connect(
	ctx context.Context, checked *configuration, log logrus.FieldLogger, counters *counters,
) (*client, error) {
	nodes, err := newCluster(checked.endpoints, checked.tls != nil, dialer(checked.tls), log, counters)
	if err != nil {
		return nil, err
	}
	c := &client{
		cluster: nodes, namespace: checked.namespace, callTimeout: checked.callTimeout, log: log, counters: counters,
	}
	ctx, cancel := context.WithTimeout(ctx, checked.startupTimeout)
	defer cancel()
	if err := c.greet(ctx, checked); err != nil {
		nodes.close()
		return nil, fmt.Errorf("steeple: cannot use %v: %w", checked.endpoints, err)
	}
	return c, nil
}

// greet makes sure that there is a leader and the namespace, and says in the log whom we are talking to.
func (c *client) greet(ctx context.Context, checked *configuration) error {
	id, err := newRequestID()
	if err != nil {
		return err
	}
	// Only the leader carries this out, so its answer tells that there is one.
	open := &adminv1.OpenNamespaceRequest{Name: c.namespace, RequestId: id}
	opened := new(adminv1.OpenNamespaceResponse)
	if err := c.mutate(ctx, adminv1.Admin_OpenNamespace_FullMethodName, open, opened); err != nil {
		return err
	}
	status := new(adminv1.StatusResponse)
	asked := call{method: adminv1.Admin_Status_FullMethodName, request: &adminv1.StatusRequest{}, to: routeTold}
	if err := c.unary(ctx, asked, status); err != nil {
		return err
	}
	log := c.log.WithFields(logrus.Fields{
		"endpoints": checked.endpoints, "namespace": c.namespace, "encrypted": checked.tls != nil,
		"cluster_id": status.ClusterId, "steeple_version": status.Version, "adapter_version": Version,
	})
	if opened.Created {
		log.Warn("The namespace did not exist and was created empty")
	}
	log.Info("Connected to Steeple")
	return nil
}

// Close ends all connections. Closing twice does no harm.
func (store *DataStore) Close() error {
	store.lock.Lock()
	defer store.lock.Unlock()
	store.closed = true
	if store.client == nil {
		return nil
	}
	store.client.cluster.close()
	store.client = nil
	store.log.WithField("counters", store.counters.read().String()).Debug("Disconnected from Steeple")
	return nil
}

// Counters says how calls went.
func (store *DataStore) Counters() Counters {
	return store.counters.read()
}

func (store *DataStore) use() (*client, error) {
	store.lock.RLock()
	defer store.lock.RUnlock()
	switch {
	case store.client != nil:
		return store.client, nil
	case store.closed:
		return nil, errClosed
	default:
		return nil, errNotConfigured
	}
}

// begin prepares a mutation.
func (store *DataStore) begin() (*client, *commonv1.RequestContext, error) {
	c, err := store.use()
	if err != nil {
		return nil, nil, err
	}
	request, err := c.requestContext()
	return c, request, err
}

// reading prepares a read as fresh as asked for.
func (c *client) reading(
	method string, consistency datastore.DataConsistency,
) (*commonv1.ReadContext, call) {
	if consistency == datastore.TolerateStale {
		context, to := c.staleContext()
		return context, call{method: method, to: to, current: to == routeCurrent}
	}
	return c.currentContext(), call{method: method, to: routeCurrent, current: true}
}
