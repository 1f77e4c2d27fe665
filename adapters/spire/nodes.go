package steeple

import (
	"context"
	"math"
	"time"

	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// CreateAttestedNode stores a new node.
func (store *DataStore) CreateAttestedNode(
	ctx context.Context, attested *common.AttestedNode,
) (*common.AttestedNode, error) {
	if attested == nil {
		return nil, errMissingNode
	}
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.CreateAttestedNodeResponse)
	if err := c.mutate(ctx, spirev1.Datastore_CreateAttestedNode_FullMethodName,
		&spirev1.CreateAttestedNodeRequest{Context: request, Node: nodeIn(attested)}, answer); err != nil {
		return nil, err
	}
	return nodeAnswered(answer.Node)
}

// UpdateAttestedNode replaces those parts of a node that the mask names.
func (store *DataStore) UpdateAttestedNode(
	ctx context.Context, attested *common.AttestedNode, mask *common.AttestedNodeMask,
) (*common.AttestedNode, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.UpdateAttestedNodeResponse)
	if err := c.mutate(ctx, spirev1.Datastore_UpdateAttestedNode_FullMethodName, &spirev1.UpdateAttestedNodeRequest{
		Context: request, Node: nodeIn(attested), Mask: nodeMaskIn(mask),
	}, answer); err != nil {
		return nil, err
	}
	return nodeAnswered(answer.Node)
}

// DeleteAttestedNode deletes a node, its selectors and, for one attested by join token, its alias entries.
func (store *DataStore) DeleteAttestedNode(ctx context.Context, spiffeID string) (*common.AttestedNode, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.DeleteAttestedNodeResponse)
	if err := c.mutate(ctx, spirev1.Datastore_DeleteAttestedNode_FullMethodName,
		&spirev1.DeleteAttestedNodeRequest{Context: request, SpiffeId: spiffeID}, answer); err != nil {
		return nil, err
	}
	store.logEntries(answer.Cascaded, answer.CascadedTruncated, cascadedLine)
	return nodeAnswered(answer.Node)
}

const cascadedLine = "Cascade-deleted registration entry on attested node deletion"

// PruneAttestedExpiredNodes deletes one batch of nodes whose certificates have expired.
func (store *DataStore) PruneAttestedExpiredNodes(
	ctx context.Context, expiredBefore time.Time, includeNonReattestable bool, batchSize int,
) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	answer := new(spirev1.PruneAttestedExpiredNodesResponse)
	if err := c.mutate(ctx, spirev1.Datastore_PruneAttestedExpiredNodes_FullMethodName,
		&spirev1.PruneAttestedExpiredNodesRequest{
			Context: request, ExpiredBeforeMicros: instantRoundedUp(expiredBefore),
			IncludeNonReattestable: includeNonReattestable, BatchSize: int32(max(0, min(batchSize, math.MaxInt32))),
		}, answer); err != nil {
		return err
	}
	store.logEntries(answer.Cascaded, answer.CascadedTruncated, cascadedLine)
	store.log.WithField("count", answer.Pruned).Info("Pruned expired agents")
	return nil
}

// FetchAttestedNode finds a node, without selectors; nil when there is none. An agent that is told so attests again, so
// the answer is always current, and whatever leaves a doubt is an error.
func (store *DataStore) FetchAttestedNode(ctx context.Context, spiffeID string) (*common.AttestedNode, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.FetchAttestedNodeResponse)
	if err := c.read(ctx, spirev1.Datastore_FetchAttestedNode_FullMethodName,
		&spirev1.FetchAttestedNodeRequest{Context: c.currentContext(), SpiffeId: spiffeID}, answer); err != nil {
		return nil, err
	}
	return nodeOut(answer.Node), nil
}

// FetchAttestedNodes finds those of the nodes that exist, with their selectors.
func (store *DataStore) FetchAttestedNodes(
	ctx context.Context, spiffeIDs []string,
) (map[string]*common.AttestedNode, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	nodes := make(map[string]*common.AttestedNode, len(spiffeIDs))
	err = c.fetch(spiffeIDs, func(some []string) error {
		answer := new(spirev1.FetchAttestedNodesResponse)
		if err := c.read(ctx, spirev1.Datastore_FetchAttestedNodes_FullMethodName,
			&spirev1.FetchAttestedNodesRequest{Context: c.currentContext(), SpiffeIds: some}, answer); err != nil {
			return err
		}
		for _, attested := range answer.Nodes {
			nodes[attested.SpiffeId] = nodeOut(attested)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return nodes, nil
}

// CountAttestedNodes counts the nodes that a filter selects.
func (store *DataStore) CountAttestedNodes(
	ctx context.Context, request *datastore.CountAttestedNodesRequest,
) (int32, error) {
	if request == nil {
		return 0, errRequestMissing
	}
	if request.BySelectorMatch != nil && len(request.BySelectorMatch.Selectors) == 0 {
		return 0, errNodeSelectors
	}
	c, err := store.use()
	if err != nil {
		return 0, err
	}
	answer := new(spirev1.CountAttestedNodesResponse)
	if err := c.read(ctx, spirev1.Datastore_CountAttestedNodes_FullMethodName, &spirev1.CountAttestedNodesRequest{
		Context: c.currentContext(),
		Filter: &spirev1.AttestedNodeFilter{
			ByAttestationType: request.ByAttestationType, ByBanned: request.ByBanned,
			ByExpiresBeforeMicros: instantRoundedUp(request.ByExpiresBefore), ByCanReattest: request.ByCanReattest,
			BySelectors: bySelectorsIn(request.BySelectorMatch),
		},
	}, answer); err != nil {
		return 0, err
	}
	return count(answer.Count)
}

// ListAttestedNodes lists the nodes that a filter selects, in the order in which they were created.
func (store *DataStore) ListAttestedNodes(
	ctx context.Context, request *datastore.ListAttestedNodesRequest,
) (*datastore.ListAttestedNodesResponse, error) {
	if request == nil {
		return nil, errRequestMissing
	}
	if err := checkPage(request.Pagination); err != nil {
		return nil, err
	}
	if request.BySelectorMatch != nil && len(request.BySelectorMatch.Selectors) == 0 {
		return nil, errNodeSelectors
	}
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	filter := &spirev1.AttestedNodeFilter{
		ByAttestationType: request.ByAttestationType, ByBanned: request.ByBanned,
		ByExpiresBeforeMicros: instantRoundedUp(request.ByExpiresBefore), ValidAtMicros: instantRoundedUp(request.ValidAt),
		ByCanReattest: request.ByCanReattest, BySpiffeIds: copied(request.BySpiffeIDs),
		BySelectors: bySelectorsIn(request.BySelectorMatch),
	}
	var nodes []*spirev1.AttestedNode
	var page *spirev1.Pagination
	if request.Pagination == nil {
		all := call{
			method: spirev1.Datastore_StreamAttestedNodes_FullMethodName, to: routeCurrent, current: true,
			request: &spirev1.StreamAttestedNodesRequest{
				Context: c.currentContext(), Filter: filter, FetchSelectors: request.FetchSelectors,
			},
		}
		err = stream(ctx, c, all, func() { nodes = nil }, func(some *spirev1.StreamAttestedNodesResponse) {
			nodes = append(nodes, some.Nodes...)
		})
	} else {
		answer := new(spirev1.ListAttestedNodesResponse)
		err = c.read(ctx, spirev1.Datastore_ListAttestedNodes_FullMethodName, &spirev1.ListAttestedNodesRequest{
			Context: c.currentContext(), Filter: filter, FetchSelectors: request.FetchSelectors,
			Pagination: pageIn(request.Pagination),
		}, answer)
		nodes, page = answer.Nodes, answer.Pagination
	}
	if err != nil {
		return nil, err
	}
	return &datastore.ListAttestedNodesResponse{
		Nodes: each(nodes, nodeOut), Pagination: pageOut(request.Pagination, page),
	}, nil
}

// ListAttestedNodeEvents lists events of nodes, ascending.
func (store *DataStore) ListAttestedNodeEvents(
	ctx context.Context, request *datastore.ListAttestedNodeEventsRequest,
) (*datastore.ListAttestedNodeEventsResponse, error) {
	if request == nil {
		return nil, errRequestMissing
	}
	if request.GreaterThanEventID != 0 && request.LessThanEventID != 0 {
		return nil, errEventBounds
	}
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	context, call := c.reading(spirev1.Datastore_StreamAttestedNodeEvents_FullMethodName, request.DataConsistency)
	call.request = &spirev1.ListAttestedNodeEventsRequest{
		Context: context, GreaterThanEventId: uint64(request.GreaterThanEventID),
		LessThanEventId: uint64(request.LessThanEventID),
	}
	var events []*spirev1.AttestedNodeEvent
	if err := stream(ctx, c, call, func() { events = nil },
		func(some *spirev1.StreamAttestedNodeEventsResponse) { events = append(events, some.Events...) },
	); err != nil {
		return nil, err
	}
	response := &datastore.ListAttestedNodeEventsResponse{
		Events: make([]datastore.AttestedNodeEvent, 0, len(events)),
	}
	for _, event := range events {
		id, err := number(event.EventId)
		if err != nil {
			return nil, err
		}
		response.Events = append(response.Events, datastore.AttestedNodeEvent{EventID: id, SpiffeID: event.SpiffeId})
	}
	return response, nil
}

// FetchAttestedNodeEvent finds an event. Unlike other records, one that is not there is an error.
func (store *DataStore) FetchAttestedNodeEvent(
	ctx context.Context, eventID uint,
) (*datastore.AttestedNodeEvent, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.FetchAttestedNodeEventResponse)
	if err := c.read(ctx, spirev1.Datastore_FetchAttestedNodeEvent_FullMethodName,
		&spirev1.FetchAttestedNodeEventRequest{Context: c.currentContext(), EventId: uint64(eventID)}, answer); err != nil {
		return nil, err
	}
	if answer.Event == nil {
		return nil, errAnswerIncomplete
	}
	id, err := number(answer.Event.EventId)
	if err != nil {
		return nil, err
	}
	return &datastore.AttestedNodeEvent{EventID: id, SpiffeID: answer.Event.SpiffeId}, nil
}

// PruneAttestedNodeEvents gives up events older than an age, by the clock that stamped them.
func (store *DataStore) PruneAttestedNodeEvents(ctx context.Context, olderThan time.Duration) error {
	micros, err := age(olderThan)
	if err != nil {
		return err
	}
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_PruneAttestedNodeEvents_FullMethodName,
		&spirev1.PruneAttestedNodeEventsRequest{Context: request, OlderThanMicros: micros},
		new(spirev1.PruneAttestedNodeEventsResponse))
}

// SetNodeSelectors replaces the selectors stored under a SPIFFE ID.
func (store *DataStore) SetNodeSelectors(ctx context.Context, spiffeID string, selectors []*common.Selector) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_SetNodeSelectors_FullMethodName, &spirev1.SetNodeSelectorsRequest{
		Context: request, SpiffeId: spiffeID, Selectors: each(selectors, selectorIn),
	}, new(spirev1.SetNodeSelectorsResponse))
}

// GetNodeSelectors finds the selectors stored under a SPIFFE ID; nil when there are none.
func (store *DataStore) GetNodeSelectors(
	ctx context.Context, spiffeID string, consistency datastore.DataConsistency,
) ([]*common.Selector, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	context, call := c.reading(spirev1.Datastore_GetNodeSelectors_FullMethodName, consistency)
	call.request = &spirev1.GetNodeSelectorsRequest{Context: context, SpiffeId: spiffeID}
	answer := new(spirev1.GetNodeSelectorsResponse)
	if err := c.unary(ctx, call, answer); err != nil {
		return nil, err
	}
	return each(answer.Selectors, selectorOut), nil
}

// ListNodeSelectors lists all stored selectors, or those of nodes whose certificates have not expired at an instant.
func (store *DataStore) ListNodeSelectors(
	ctx context.Context, request *datastore.ListNodeSelectorsRequest,
) (*datastore.ListNodeSelectorsResponse, error) {
	if request == nil {
		return nil, errRequestMissing
	}
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	context, call := c.reading(spirev1.Datastore_StreamNodeSelectors_FullMethodName, request.DataConsistency)
	call.request = &spirev1.ListNodeSelectorsRequest{
		Context: context, ValidAtMicros: instantRoundedDown(request.ValidAt),
	}
	response := new(datastore.ListNodeSelectorsResponse)
	if err := stream(ctx, c, call,
		func() { response.Selectors = make(map[string][]*common.Selector) },
		func(some *spirev1.StreamNodeSelectorsResponse) {
			for _, stored := range some.NodeSelectors {
				response.Selectors[stored.SpiffeId] = each(stored.Selectors, selectorOut)
			}
		},
	); err != nil {
		return nil, err
	}
	return response, nil
}
