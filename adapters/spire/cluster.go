package steeple

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"

	"steeple.internal/adapters/spire/internal/wire/adminv1"
)

const (
	// nodesMax is more than a group has, and few enough for answers that make no sense.
	nodesMax = 64
	// restMin and restMax say how long a node that failed is left alone, at first and at the most.
	restMin = 100 * time.Millisecond
	restMax = 5 * time.Second
	// The members are asked for again after so long, the second when something failed meanwhile.
	discoveryInterval          = 30 * time.Second
	discoveryIntervalInTrouble = time.Second
	discoveryPatience          = 2 * time.Second
	discoveryAttempts          = 3
	addressBytesMax            = 512
)

// route says which nodes can answer a call.
type route int

const (
	// routeLeader is the one that decides.
	routeLeader route = iota
	// routeCurrent is any, and best the one that decides: it knows without asking.
	routeCurrent
	// routeAny is each in turn.
	routeAny
	// routeTold is one of those that the configuration names.
	routeTold
)

// node is one node, with the connection to it.
type node struct {
	address    string
	connection *grpc.ClientConn
	// told: named by the configuration, and not by another node.
	told bool
	// checked: found to belong to the cluster since it last failed. Addresses get out of date, and somebody else's node
	// may have one by now.
	checked atomic.Bool

	// Guarded by the cluster's lock.
	failures     int
	restingUntil time.Time
}

func (n *node) trusted() bool {
	return n.told || n.checked.Load()
}

func (n *node) well(now time.Time) bool {
	return !n.restingUntil.After(now)
}

func (n *node) rest(now time.Time) {
	rest := restMax
	if n.failures < 10 {
		rest = min(restMin<<n.failures, restMax)
	}
	n.failures++
	n.restingUntil = now.Add(rest)
}

func (n *node) can(to route) bool {
	return to != routeTold || n.told
}

// cluster is the nodes that are known: which one to ask, and what became of it.
type cluster struct {
	dial      func(address string) (*grpc.ClientConn, error)
	encrypted bool
	log       logrus.FieldLogger
	counters  *counters
	// life ends when the cluster is closed.
	life context.Context
	end  context.CancelFunc

	lock  sync.Mutex
	nodes []*node
	// id is the cluster's, once a node that we were told of has said it.
	id string
	// inUse is the address of the node that mutations go to.
	inUse        string
	turn         int
	discoveredAt time.Time
	trouble      bool
}

func newCluster(
	endpoints []string, encrypted bool, dial func(string) (*grpc.ClientConn, error), log logrus.FieldLogger,
	counters *counters,
) (*cluster, error) {
	life, end := context.WithCancel(context.Background())
	c := &cluster{dial: dial, encrypted: encrypted, log: log, counters: counters, life: life, end: end}
	for _, address := range endpoints {
		connection, err := dial(address)
		if err != nil {
			c.close()
			return nil, err
		}
		c.nodes = append(c.nodes, &node{address: address, connection: connection, told: true})
	}
	return c, nil
}

func (c *cluster) close() {
	c.end()
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, n := range c.nodes {
		_ = n.connection.Close()
	}
	c.nodes = nil
}

func (c *cluster) size() int {
	c.lock.Lock()
	defer c.lock.Unlock()
	return len(c.nodes)
}

// pick finds the node to ask next, if possible another one than avoid; nil when none is known.
func (c *cluster) pick(to route, avoid *node) *node {
	c.lock.Lock()
	defer c.lock.Unlock()
	now := time.Now()
	first := 0
	switch to {
	case routeLeader, routeCurrent:
		first = max(c.position(c.inUse), 0)
	case routeAny:
		c.turn++
		first = c.turn
	}
	var best *node
	for step := range c.nodes {
		candidate := c.nodes[(first+step)%len(c.nodes)]
		if !candidate.can(to) {
			continue
		}
		if candidate.well(now) && candidate != avoid {
			return candidate
		}
		// Where none is well, the one that has rested longest.
		if best == nil || (best == avoid && candidate != avoid) ||
			(candidate != avoid && candidate.restingUntil.Before(best.restingUntil)) {
			best = candidate
		}
	}
	return best
}

// succeeded remembers that a node answered.
func (c *cluster) succeeded(to route, n *node) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.answered(to, n)
}

func (c *cluster) answered(to route, n *node) {
	if n.failures > 0 {
		c.log.WithField("node", n.address).Info("Steeple node answers again")
	}
	n.failures, n.restingUntil = 0, time.Time{}
	if to == routeLeader {
		c.use(n.address)
	}
}

// failed remembers that a node failed; it says whether it makes sense to ask another one at once.
func (c *cluster) failed(to route, n *node, why *failure) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	now := time.Now()
	switch {
	case why.kind == kindNotLeader:
		c.counters.redirects.add()
		return c.follow(n, why.leader, now)
	case why.broken():
		c.counters.broken.add()
		c.trouble = true
		if n.failures == 0 {
			c.log.WithField("node", n.address).WithField("reason", why.String()).Warn("Steeple node does not answer")
		}
		n.rest(now)
		n.checked.Store(false)
	case why.kind == kindUnavailable:
		c.trouble = true
		// The one in use may still be the only one that decides.
		if to == routeAny && c.inUse != n.address {
			n.rest(now)
		}
	case why.kind == kindOverloaded && to == routeAny:
	case why.kind == kindNone || why.kind == kindRefused:
		c.answered(to, n)
		return false
	default:
		return false
	}
	if to == routeLeader || to == routeCurrent {
		c.leave(n.address)
	}
	return c.another(to, n, now)
}

// unusable remembers that a node could not be asked at all.
func (c *cluster) unusable(to route, n *node) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	now := time.Now()
	c.trouble = true
	c.leave(n.address)
	n.rest(now)
	n.checked.Store(false)
	return c.another(to, n, now)
}

// follow goes where a node points to; without a word where, to the next node.
func (c *cluster) follow(from *node, leader string, now time.Time) bool {
	address := c.toldAddress(leader)
	if address == "" || address == from.address {
		c.trouble = true
		c.leave(from.address)
		return false
	}
	there := c.learn(address)
	if there == nil {
		c.leave(from.address)
		return false
	}
	c.use(address)
	// A node that just failed may still be named by the others, which have not noticed yet; or it is back and leads.
	if soon := now.Add(restMin); there.restingUntil.After(soon) {
		there.restingUntil = soon
	}
	return there.well(now)
}

// toldAddress is an address that a node told; empty for what cannot be one.
func (c *cluster) toldAddress(text string) string {
	if text == "" || len(text) > addressBytesMax {
		return ""
	}
	address, err := parseAddress(text, c.encrypted)
	if err != nil {
		return ""
	}
	return address
}

// learn makes sure that a node is known; nil when it cannot be.
func (c *cluster) learn(address string) *node {
	if position := c.position(address); position >= 0 {
		return c.nodes[position]
	}
	if len(c.nodes) >= nodesMax || c.life.Err() != nil {
		return nil
	}
	connection, err := c.dial(address)
	if err != nil {
		c.log.WithField("node", address).WithError(err).Debug("Was told an address that is none")
		return nil
	}
	c.log.WithField("node", address).Debug("Learned of a Steeple node")
	n := &node{address: address, connection: connection}
	c.nodes = append(c.nodes, n)
	return n
}

func (c *cluster) position(address string) int {
	return slices.IndexFunc(c.nodes, func(n *node) bool { return n.address == address })
}

func (c *cluster) use(address string) {
	if c.inUse != address {
		c.log.WithField("node", address).Debug("Steeple node in use")
		c.inUse = address
	}
}

// leave uses another node than this one, if it was in use.
func (c *cluster) leave(address string) {
	if len(c.nodes) > 0 && (c.inUse == "" || c.inUse == address) {
		c.inUse = c.nodes[(c.position(address)+1)%len(c.nodes)].address
	}
}

func (c *cluster) another(to route, than *node, now time.Time) bool {
	return slices.ContainsFunc(c.nodes, func(n *node) bool { return n != than && n.can(to) && n.well(now) })
}

// check makes sure that a node belongs to the cluster of the nodes that the configuration names, before anything is
// asked of it.
func (c *cluster) check(ctx context.Context, n *node) *failure {
	if n.trusted() {
		return nil
	}
	expected, failed := c.identity(ctx)
	if failed != nil {
		return failed
	}
	answer, failed := c.members(ctx, n)
	if failed != nil {
		return failed
	}
	if answer.ClusterId != expected {
		c.foreign(n, answer.ClusterId, expected)
		return unavailable("node %s belongs to cluster %s, and not to %s", n.address, answer.ClusterId, expected)
	}
	n.checked.Store(true)
	return nil
}

func (c *cluster) identity(ctx context.Context) (string, *failure) {
	c.lock.Lock()
	id := c.id
	c.lock.Unlock()
	if id != "" {
		return id, nil
	}
	first := c.pick(routeTold, nil)
	if first == nil {
		return "", unavailable("no node is known")
	}
	answer, failed := c.members(ctx, first)
	if failed != nil {
		return "", failed
	}
	c.discovered(first, answer)
	return answer.ClusterId, nil
}

// foreign forgets a node of another cluster.
func (c *cluster) foreign(n *node, found, expected string) {
	c.log.WithFields(logrus.Fields{"node": n.address, "found": found, "expected": expected}).
		Warn("The group names a node that belongs to another cluster")
	c.lock.Lock()
	defer c.lock.Unlock()
	n.checked.Store(false)
	c.leave(n.address)
	c.keep(func(other *node) bool { return other != n })
}

// keep closes and forgets nodes.
func (c *cluster) keep(wanted func(*node) bool) {
	c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool {
		if n.told || wanted(n) {
			return false
		}
		_ = n.connection.Close()
		return true
	})
	if c.position(c.inUse) < 0 {
		c.inUse = ""
	}
}

// members asks a node for its group.
func (c *cluster) members(ctx context.Context, n *node) (*adminv1.ClusterStatusResponse, *failure) {
	ctx, cancel := context.WithTimeout(ctx, discoveryPatience)
	defer cancel()
	answer, err := adminv1.NewAdminClient(n.connection).ClusterStatus(ctx, &adminv1.ClusterStatusRequest{})
	if err != nil {
		return nil, unavailable("node %s did not tell its cluster: %s", n.address, err)
	}
	return answer, nil
}

// discoverWhenDue asks for the group's members in the background, now and then.
func (c *cluster) discoverWhenDue() {
	c.lock.Lock()
	interval := discoveryInterval
	if c.trouble {
		interval = discoveryIntervalInTrouble
	}
	now := time.Now()
	due := c.discoveredAt.IsZero() || now.Sub(c.discoveredAt) >= interval
	if due {
		c.discoveredAt, c.trouble = now, false
	}
	c.lock.Unlock()
	if due {
		go c.discover()
	}
}

func (c *cluster) discover() {
	var last *node
	for range discoveryAttempts {
		to := routeCurrent
		if last != nil {
			to = routeAny
		}
		n := c.pick(to, last)
		if n == nil || c.life.Err() != nil {
			return
		}
		failed := c.check(c.life, n)
		if failed == nil {
			var answer *adminv1.ClusterStatusResponse
			if answer, failed = c.members(c.life, n); failed == nil {
				c.discovered(n, answer)
				return
			}
		}
		c.log.WithField("node", n.address).WithField("reason", failed.String()).Debug("Steeple node did not tell the members")
		last = n
	}
}

// discovered knows from now on the nodes of the configuration, and the members that a node names.
func (c *cluster) discovered(from *node, answer *adminv1.ClusterStatusResponse) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if from.told {
		c.id = answer.ClusterId
	}
	var members []string
	for _, member := range answer.Members {
		address := c.toldAddress(member.ClientAddress)
		if address == "" || c.learn(address) == nil {
			continue
		}
		if c.inUse == "" && member.NodeId == answer.LeaderNodeId {
			c.use(address)
		}
		members = append(members, address)
	}
	if len(members) == 0 {
		return
	}
	// Others may not have heard yet of the one that decides; a node that does not name itself has left.
	c.keep(func(n *node) bool {
		return slices.Contains(members, n.address) || (n.address == c.inUse && n != from)
	})
}
