package steeple

import (
	"context"
	"time"

	"github.com/spiffe/spire/pkg/server/datastore"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// CreateJoinToken stores a new token.
func (store *DataStore) CreateJoinToken(ctx context.Context, token *datastore.JoinToken) error {
	if token == nil || token.Token == "" || token.Expiry.IsZero() {
		return errTokenAndExpiry
	}
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_CreateJoinToken_FullMethodName, &spirev1.CreateJoinTokenRequest{
		Context: request, JoinToken: &spirev1.JoinToken{Token: token.Token, ExpiresAt: token.Expiry.Unix()},
	}, new(spirev1.CreateJoinTokenResponse))
}

// DeleteJoinToken deletes a token; of several callers exactly one succeeds. An answer that gets lost on the way is asked
// for again, so that a token is not used up for nothing.
func (store *DataStore) DeleteJoinToken(ctx context.Context, token string) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_DeleteJoinToken_FullMethodName,
		&spirev1.DeleteJoinTokenRequest{Context: request, Token: token}, new(spirev1.DeleteJoinTokenResponse))
}

// FetchJoinToken finds a token, expired or not; nil when there is none.
func (store *DataStore) FetchJoinToken(ctx context.Context, token string) (*datastore.JoinToken, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.FetchJoinTokenResponse)
	if err := c.read(ctx, spirev1.Datastore_FetchJoinToken_FullMethodName,
		&spirev1.FetchJoinTokenRequest{Context: c.currentContext(), Token: token}, answer); err != nil {
		return nil, err
	}
	if answer.JoinToken == nil {
		return nil, nil
	}
	return &datastore.JoinToken{
		Token: answer.JoinToken.Token, Expiry: time.Unix(answer.JoinToken.ExpiresAt, 0),
	}, nil
}

// PruneJoinTokens deletes tokens that have expired.
func (store *DataStore) PruneJoinTokens(ctx context.Context, expiresBefore time.Time) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_PruneJoinTokens_FullMethodName, &spirev1.PruneJoinTokensRequest{
		Context: request, ExpiresBeforeMicros: instantRoundedDown(expiresBefore),
	}, new(spirev1.PruneJoinTokensResponse))
}
