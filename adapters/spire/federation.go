package steeple

import (
	"context"
	"net/url"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
	"google.golang.org/protobuf/proto"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// relationshipsInOnePage is as bundlesInOnePage: each may come with a bundle.
const relationshipsInOnePage = bundlesInOnePage

// CreateFederationRelationship stores a new relationship, and its bundle if it has one.
func (store *DataStore) CreateFederationRelationship(
	ctx context.Context, relationship *datastore.FederationRelationship,
) (*datastore.FederationRelationship, error) {
	if err := checkRelationship(relationship, nil); err != nil {
		return nil, err
	}
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	in, err := relationshipIn(relationship)
	if err != nil {
		return nil, err
	}
	if err := c.mutate(ctx, spirev1.Datastore_CreateFederationRelationship_FullMethodName,
		&spirev1.CreateFederationRelationshipRequest{Context: request, Relationship: in},
		new(spirev1.CreateFederationRelationshipResponse)); err != nil {
		return nil, err
	}
	return relationshipCopied(relationship), nil
}

// relationshipCopied is what was asked for, which is what SPIRE expects of a relationship's creation.
func relationshipCopied(relationship *datastore.FederationRelationship) *datastore.FederationRelationship {
	out := *relationship
	if relationship.BundleEndpointURL != nil {
		out.BundleEndpointURL = new(url.URL)
		*out.BundleEndpointURL = *relationship.BundleEndpointURL
	}
	if relationship.TrustDomainBundle != nil {
		out.TrustDomainBundle = proto.Clone(relationship.TrustDomainBundle).(*common.Bundle)
	}
	return &out
}

// UpdateFederationRelationship replaces those parts of a relationship that the mask names.
func (store *DataStore) UpdateFederationRelationship(
	ctx context.Context, relationship *datastore.FederationRelationship, mask *types.FederationRelationshipMask,
) (*datastore.FederationRelationship, error) {
	if err := checkRelationship(relationship, mask); err != nil {
		return nil, err
	}
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	in, err := relationshipIn(relationship)
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.UpdateFederationRelationshipResponse)
	if err := c.mutate(ctx, spirev1.Datastore_UpdateFederationRelationship_FullMethodName,
		&spirev1.UpdateFederationRelationshipRequest{
			Context: request, Relationship: in, Mask: relationshipMaskIn(mask),
		}, answer); err != nil {
		return nil, err
	}
	if answer.Relationship == nil {
		return nil, errAnswerIncomplete
	}
	return relationshipOut(answer.Relationship)
}

// DeleteFederationRelationship deletes a relationship; the bundle stays.
func (store *DataStore) DeleteFederationRelationship(ctx context.Context, trustDomain spiffeid.TrustDomain) error {
	if trustDomain.IsZero() {
		return errTrustDomain
	}
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_DeleteFederationRelationship_FullMethodName,
		&spirev1.DeleteFederationRelationshipRequest{Context: request, TrustDomain: trustDomain.Name()},
		new(spirev1.DeleteFederationRelationshipResponse))
}

// FetchFederationRelationship finds a relationship, with its bundle if there is one; nil when there is none.
func (store *DataStore) FetchFederationRelationship(
	ctx context.Context, trustDomain spiffeid.TrustDomain,
) (*datastore.FederationRelationship, error) {
	if trustDomain.IsZero() {
		return nil, errTrustDomain
	}
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.FetchFederationRelationshipResponse)
	if err := c.read(ctx, spirev1.Datastore_FetchFederationRelationship_FullMethodName,
		&spirev1.FetchFederationRelationshipRequest{Context: c.currentContext(), TrustDomain: trustDomain.Name()},
		answer); err != nil {
		return nil, err
	}
	if answer.Relationship == nil {
		return nil, nil
	}
	return relationshipOut(answer.Relationship)
}

// ListFederationRelationships lists relationships in the order in which they were created.
func (store *DataStore) ListFederationRelationships(
	ctx context.Context, request *datastore.ListFederationRelationshipsRequest,
) (*datastore.ListFederationRelationshipsResponse, error) {
	if request == nil {
		return nil, errRequestMissing
	}
	if err := checkPage(request.Pagination); err != nil {
		return nil, err
	}
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	relationships, page, err := listInPages(request.Pagination, relationshipsInOnePage,
		func(pagination *spirev1.Pagination) ([]*spirev1.FederationRelationship, *spirev1.Pagination, error) {
			answer := new(spirev1.ListFederationRelationshipsResponse)
			err := c.read(ctx, spirev1.Datastore_ListFederationRelationships_FullMethodName,
				&spirev1.ListFederationRelationshipsRequest{Context: c.currentContext(), Pagination: pagination}, answer)
			return answer.GetRelationships(), answer.GetPagination(), err
		})
	if err != nil {
		return nil, err
	}
	out := make([]*datastore.FederationRelationship, 0, len(relationships))
	for _, relationship := range relationships {
		parsed, err := relationshipOut(relationship)
		if err != nil {
			return nil, err
		}
		out = append(out, parsed)
	}
	return &datastore.ListFederationRelationshipsResponse{
		FederationRelationships: out, Pagination: pageOut(request.Pagination, page),
	}, nil
}
