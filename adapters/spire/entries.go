package steeple

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spiffe/spire/pkg/common/telemetry"
	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// keysMax is how many keys are asked for at a time; nodes take a few more.
const keysMax = 50_000

// CreateRegistrationEntry creates an entry, or returns the similar one.
func (store *DataStore) CreateRegistrationEntry(
	ctx context.Context, entry *common.RegistrationEntry,
) (*common.RegistrationEntry, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	in, err := entryIn(entry)
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.CreateRegistrationEntryResponse)
	if err := c.mutate(ctx, spirev1.Datastore_CreateRegistrationEntry_FullMethodName,
		&spirev1.CreateRegistrationEntryRequest{Context: request, Entry: in}, answer); err != nil {
		return nil, err
	}
	return entryAnswered(answer.Entry)
}

// CreateOrReturnRegistrationEntry creates an entry, or returns the similar one and says that it was there.
func (store *DataStore) CreateOrReturnRegistrationEntry(
	ctx context.Context, entry *common.RegistrationEntry,
) (*common.RegistrationEntry, bool, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, false, err
	}
	in, err := entryIn(entry)
	if err != nil {
		return nil, false, err
	}
	answer := new(spirev1.CreateOrReturnRegistrationEntryResponse)
	if err := c.mutate(ctx, spirev1.Datastore_CreateOrReturnRegistrationEntry_FullMethodName,
		&spirev1.CreateOrReturnRegistrationEntryRequest{Context: request, Entry: in}, answer); err != nil {
		return nil, false, err
	}
	out, err := entryAnswered(answer.Entry)
	return out, err == nil && answer.Existing, err
}

// UpdateRegistrationEntry replaces those parts of an entry that the mask names.
func (store *DataStore) UpdateRegistrationEntry(
	ctx context.Context, entry *common.RegistrationEntry, mask *common.RegistrationEntryMask,
) (*common.RegistrationEntry, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	in, err := entryIn(entry)
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.UpdateRegistrationEntryResponse)
	if err := c.mutate(ctx, spirev1.Datastore_UpdateRegistrationEntry_FullMethodName,
		&spirev1.UpdateRegistrationEntryRequest{Context: request, Entry: in, Mask: entryMaskIn(mask)}, answer); err != nil {
		return nil, err
	}
	return entryAnswered(answer.Entry)
}

// DeleteRegistrationEntry deletes an entry and returns it as it was.
func (store *DataStore) DeleteRegistrationEntry(
	ctx context.Context, entryID string,
) (*common.RegistrationEntry, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.DeleteRegistrationEntryResponse)
	if err := c.mutate(ctx, spirev1.Datastore_DeleteRegistrationEntry_FullMethodName,
		&spirev1.DeleteRegistrationEntryRequest{Context: request, EntryId: entryID}, answer); err != nil {
		return nil, err
	}
	return entryAnswered(answer.Entry)
}

// PruneRegistrationEntries deletes entries that have expired.
func (store *DataStore) PruneRegistrationEntries(ctx context.Context, expiresBefore time.Time) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	answer := new(spirev1.PruneRegistrationEntriesResponse)
	if err := c.mutate(ctx, spirev1.Datastore_PruneRegistrationEntries_FullMethodName,
		&spirev1.PruneRegistrationEntriesRequest{
			Context: request, ExpiresBeforeMicros: instantRoundedDown(expiresBefore),
		}, answer); err != nil {
		return err
	}
	store.logEntries(answer.Entries, answer.Truncated, "Pruned an expired registration")
	return nil
}

// logEntries writes the line that SPIRE's operators know for each entry that went.
func (store *DataStore) logEntries(entries []*spirev1.PrunedEntry, truncated bool, line string) {
	for _, entry := range entries {
		store.log.WithFields(logrus.Fields{
			telemetry.SPIFFEID:       entry.SpiffeId,
			telemetry.ParentID:       entry.ParentId,
			telemetry.RegistrationID: entry.EntryId,
		}).Info(line)
	}
	if truncated {
		store.log.WithField("listed", len(entries)).Info("More entries went than are listed above")
	}
}

// FetchRegistrationEntry finds an entry; nil when there is none.
func (store *DataStore) FetchRegistrationEntry(
	ctx context.Context, entryID string,
) (*common.RegistrationEntry, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.FetchRegistrationEntryResponse)
	if err := c.read(ctx, spirev1.Datastore_FetchRegistrationEntry_FullMethodName,
		&spirev1.FetchRegistrationEntryRequest{Context: c.currentContext(), EntryId: entryID}, answer); err != nil {
		return nil, err
	}
	return entryOut(answer.Entry)
}

// FetchRegistrationEntries finds those of the entries that exist.
func (store *DataStore) FetchRegistrationEntries(
	ctx context.Context, entryIDs []string,
) (map[string]*common.RegistrationEntry, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	entries := make(map[string]*common.RegistrationEntry, len(entryIDs))
	err = c.fetch(entryIDs, func(some []string) error {
		answer := new(spirev1.FetchRegistrationEntriesResponse)
		if err := c.read(ctx, spirev1.Datastore_FetchRegistrationEntries_FullMethodName,
			&spirev1.FetchRegistrationEntriesRequest{Context: c.currentContext(), EntryIds: some}, answer); err != nil {
			return err
		}
		for _, entry := range answer.Entries {
			out, err := entryOut(entry)
			if err != nil {
				return err
			}
			entries[entry.EntryId] = out
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// fetch asks for many records by their keys, in as many requests as it takes: fewer at a time when their records do not
// fit into one answer.
func (c *client) fetch(keys []string, some func([]string) error) error {
	for size := keysMax; len(keys) > 0; {
		size = min(size, len(keys))
		switch err := some(keys[:size]); {
		case isTooLarge(err) && size > 1:
			size /= 2
		case err != nil:
			return err
		default:
			keys = keys[size:]
		}
	}
	return nil
}

// CountRegistrationEntries counts the entries that a filter selects.
func (store *DataStore) CountRegistrationEntries(
	ctx context.Context, request *datastore.CountRegistrationEntriesRequest,
) (int32, error) {
	if request == nil {
		return 0, errRequestMissing
	}
	if request.BySelectors != nil && len(request.BySelectors.Selectors) == 0 {
		return 0, errEntrySelectors
	}
	c, err := store.use()
	if err != nil {
		return 0, err
	}
	context, call := c.reading(spirev1.Datastore_CountRegistrationEntries_FullMethodName, request.DataConsistency)
	call.request = &spirev1.CountRegistrationEntriesRequest{
		Context: context,
		Filter: &spirev1.RegistrationEntryFilter{
			ByParentId: request.ByParentID, BySpiffeId: request.BySpiffeID, ByHint: request.ByHint,
			BySelectors: bySelectorsIn(request.BySelectors), ByFederatesWith: byFederatesWithIn(request.ByFederatesWith),
			ByDownstream: request.ByDownstream,
		},
	}
	answer := new(spirev1.CountRegistrationEntriesResponse)
	if err := c.unary(ctx, call, answer); err != nil {
		return 0, err
	}
	return count(answer.Count)
}

// ListRegistrationEntries lists the entries that a filter selects, in the order in which they were created.
func (store *DataStore) ListRegistrationEntries(
	ctx context.Context, request *datastore.ListRegistrationEntriesRequest,
) (*datastore.ListRegistrationEntriesResponse, error) {
	if request == nil {
		return nil, errRequestMissing
	}
	if err := checkPage(request.Pagination); err != nil {
		return nil, err
	}
	if request.BySelectors != nil && len(request.BySelectors.Selectors) == 0 {
		return nil, errEntrySelectors
	}
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	filter := &spirev1.RegistrationEntryFilter{
		ByParentId: request.ByParentID, BySpiffeId: request.BySpiffeID, ByHint: request.ByHint,
		BySelectors: bySelectorsIn(request.BySelectors), ByFederatesWith: byFederatesWithIn(request.ByFederatesWith),
		ByDownstream: request.ByDownstream,
	}
	var entries []*spirev1.RegistrationEntry
	var page *spirev1.Pagination
	if request.Pagination == nil {
		entries, err = c.allEntries(ctx, filter, request.DataConsistency)
	} else {
		entries, page, err = c.pageOfEntries(ctx, filter, request)
	}
	if err != nil {
		return nil, err
	}
	out, err := eachTried(entries, entryOut)
	if err != nil {
		return nil, err
	}
	return &datastore.ListRegistrationEntriesResponse{
		Entries: out, Pagination: pageOut(request.Pagination, page),
	}, nil
}

func (c *client) allEntries(
	ctx context.Context, filter *spirev1.RegistrationEntryFilter, consistency datastore.DataConsistency,
) (entries []*spirev1.RegistrationEntry, err error) {
	context, call := c.reading(spirev1.Datastore_StreamRegistrationEntries_FullMethodName, consistency)
	call.request = &spirev1.StreamRegistrationEntriesRequest{Context: context, Filter: filter}
	err = stream(ctx, c, call, func() { entries = nil }, func(some *spirev1.StreamRegistrationEntriesResponse) {
		entries = append(entries, some.Entries...)
	})
	return entries, err
}

func (c *client) pageOfEntries(
	ctx context.Context, filter *spirev1.RegistrationEntryFilter, request *datastore.ListRegistrationEntriesRequest,
) ([]*spirev1.RegistrationEntry, *spirev1.Pagination, error) {
	context, call := c.reading(spirev1.Datastore_ListRegistrationEntries_FullMethodName, request.DataConsistency)
	call.request = &spirev1.ListRegistrationEntriesRequest{
		Context: context, Filter: filter, Pagination: pageIn(request.Pagination),
	}
	answer := new(spirev1.ListRegistrationEntriesResponse)
	err := c.unary(ctx, call, answer)
	return answer.GetEntries(), answer.GetPagination(), err
}

// ListRegistrationEntryEvents lists events of entries, ascending.
func (store *DataStore) ListRegistrationEntryEvents(
	ctx context.Context, request *datastore.ListRegistrationEntryEventsRequest,
) (*datastore.ListRegistrationEntryEventsResponse, error) {
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
	context, call := c.reading(spirev1.Datastore_StreamRegistrationEntryEvents_FullMethodName, request.DataConsistency)
	call.request = &spirev1.ListRegistrationEntryEventsRequest{
		Context: context, GreaterThanEventId: uint64(request.GreaterThanEventID),
		LessThanEventId: uint64(request.LessThanEventID),
	}
	var events []*spirev1.RegistrationEntryEvent
	if err := stream(ctx, c, call, func() { events = nil },
		func(some *spirev1.StreamRegistrationEntryEventsResponse) { events = append(events, some.Events...) },
	); err != nil {
		return nil, err
	}
	response := &datastore.ListRegistrationEntryEventsResponse{
		Events: make([]datastore.RegistrationEntryEvent, 0, len(events)),
	}
	for _, event := range events {
		id, err := number(event.EventId)
		if err != nil {
			return nil, err
		}
		response.Events = append(response.Events, datastore.RegistrationEntryEvent{EventID: id, EntryID: event.EntryId})
	}
	return response, nil
}

// FetchRegistrationEntryEvent finds an event. Unlike other records, one that is not there is an error.
func (store *DataStore) FetchRegistrationEntryEvent(
	ctx context.Context, eventID uint,
) (*datastore.RegistrationEntryEvent, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.FetchRegistrationEntryEventResponse)
	if err := c.read(ctx, spirev1.Datastore_FetchRegistrationEntryEvent_FullMethodName,
		&spirev1.FetchRegistrationEntryEventRequest{Context: c.currentContext(), EventId: uint64(eventID)},
		answer); err != nil {
		return nil, err
	}
	if answer.Event == nil {
		return nil, errAnswerIncomplete
	}
	id, err := number(answer.Event.EventId)
	if err != nil {
		return nil, err
	}
	return &datastore.RegistrationEntryEvent{EventID: id, EntryID: answer.Event.EntryId}, nil
}

// PruneRegistrationEntryEvents gives up events older than an age, by the clock that stamped them.
func (store *DataStore) PruneRegistrationEntryEvents(ctx context.Context, olderThan time.Duration) error {
	micros, err := age(olderThan)
	if err != nil {
		return err
	}
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_PruneRegistrationEntryEvents_FullMethodName,
		&spirev1.PruneRegistrationEntryEventsRequest{Context: request, OlderThanMicros: micros},
		new(spirev1.PruneRegistrationEntryEventsResponse))
}
