package steeple

import (
	"context"

	"github.com/sirupsen/logrus"
	"github.com/spiffe/spire/pkg/common/telemetry"
	"github.com/spiffe/spire/pkg/server/datastore"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// SetCAJournal creates a journal, or replaces the one with its ID. An answer that gets lost on the way is asked for
// again, so that no journal is left behind that nobody knows.
func (store *DataStore) SetCAJournal(
	ctx context.Context, journal *datastore.CAJournal,
) (*datastore.CAJournal, error) {
	if journal == nil {
		return nil, errJournal
	}
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.SetCAJournalResponse)
	if err := c.mutate(ctx, spirev1.Datastore_SetCAJournal_FullMethodName,
		&spirev1.SetCAJournalRequest{Context: request, Journal: journalIn(journal)}, answer); err != nil {
		return nil, err
	}
	if answer.Journal == nil {
		return nil, errAnswerIncomplete
	}
	return journalOut(answer.Journal)
}

// FetchCAJournal finds the newest journal with an active authority; nil when there is none.
func (store *DataStore) FetchCAJournal(
	ctx context.Context, activeX509AuthorityID string,
) (*datastore.CAJournal, error) {
	if activeX509AuthorityID == "" {
		return nil, errJournalAuthority
	}
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.FetchCAJournalResponse)
	if err := c.read(ctx, spirev1.Datastore_FetchCAJournal_FullMethodName, &spirev1.FetchCAJournalRequest{
		Context: c.currentContext(), ActiveX509AuthorityId: activeX509AuthorityID,
	}, answer); err != nil {
		return nil, err
	}
	return journalOut(answer.Journal)
}

// PruneCAJournals deletes journals that hold nothing valid after an instant in Unix seconds.
func (store *DataStore) PruneCAJournals(ctx context.Context, allCAsExpireBefore int64) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	answer := new(spirev1.PruneCAJournalsResponse)
	if err := c.mutate(ctx, spirev1.Datastore_PruneCAJournals_FullMethodName,
		&spirev1.PruneCAJournalsRequest{Context: request, AllExpireBefore: allCAsExpireBefore}, answer); err != nil {
		return err
	}
	for _, id := range answer.Ids {
		store.log.WithFields(logrus.Fields{telemetry.CAJournalID: id}).Info("Pruned stale CA journal record")
	}
	if answer.Truncated {
		store.log.WithField("listed", len(answer.Ids)).Info("More CA journals went than are listed above")
	}
	return nil
}

// listCAJournals lists all journals.
func (store *DataStore) listCAJournals(ctx context.Context) ([]*datastore.CAJournal, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.ListCAJournalsResponse)
	if err := c.read(ctx, spirev1.Datastore_ListCAJournals_FullMethodName,
		&spirev1.ListCAJournalsRequest{Context: c.currentContext()}, answer); err != nil {
		return nil, err
	}
	return eachTried(answer.Journals, journalOut)
}
