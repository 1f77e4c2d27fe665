package steeple

import (
	"context"
	"time"

	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// bundlesInOnePage is how many bundles are asked for at a time when all of them do not fit into one answer: as many as
// fit even if each is as large as one can be.
const bundlesInOnePage = 3

// CreateBundle stores a new bundle.
func (store *DataStore) CreateBundle(ctx context.Context, bundle *common.Bundle) (*common.Bundle, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	in, err := bundleIn(bundle)
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.CreateBundleResponse)
	err = c.mutate(ctx, spirev1.Datastore_CreateBundle_FullMethodName,
		&spirev1.CreateBundleRequest{Context: request, Bundle: in}, answer)
	return bundleAnswered(answer.GetBundle(), err)
}

// SetBundle creates a bundle or replaces all of it.
func (store *DataStore) SetBundle(ctx context.Context, bundle *common.Bundle) (*common.Bundle, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	in, err := bundleIn(bundle)
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.SetBundleResponse)
	err = c.mutate(ctx, spirev1.Datastore_SetBundle_FullMethodName,
		&spirev1.SetBundleRequest{Context: request, Bundle: in}, answer)
	return bundleAnswered(answer.GetBundle(), err)
}

// UpdateBundle replaces those parts of a bundle that the mask names.
func (store *DataStore) UpdateBundle(
	ctx context.Context, bundle *common.Bundle, mask *common.BundleMask,
) (*common.Bundle, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	in, err := bundleIn(bundle)
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.UpdateBundleResponse)
	err = c.mutate(ctx, spirev1.Datastore_UpdateBundle_FullMethodName,
		&spirev1.UpdateBundleRequest{Context: request, Bundle: in, Mask: bundleMaskIn(mask)}, answer)
	return bundleAnswered(answer.GetBundle(), err)
}

// AppendBundle adds certificates and keys that a bundle does not have; it creates the bundle when there is none.
func (store *DataStore) AppendBundle(ctx context.Context, bundle *common.Bundle) (*common.Bundle, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	in, err := bundleIn(bundle)
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.AppendBundleResponse)
	err = c.mutate(ctx, spirev1.Datastore_AppendBundle_FullMethodName,
		&spirev1.AppendBundleRequest{Context: request, Bundle: in}, answer)
	return bundleAnswered(answer.GetBundle(), err)
}

func bundleAnswered(bundle *spirev1.Bundle, err error) (*common.Bundle, error) {
	switch {
	case err != nil:
		return nil, err
	case bundle == nil:
		return nil, errAnswerIncomplete
	default:
		return bundleOut(bundle)
	}
}

// DeleteBundle deletes a bundle and treats entries that federate with it as the mode says.
func (store *DataStore) DeleteBundle(ctx context.Context, trustDomainID string, mode datastore.DeleteMode) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_DeleteBundle_FullMethodName, &spirev1.DeleteBundleRequest{
		Context: request, TrustDomainId: trustDomainID, Mode: spirev1.DeleteMode(mode),
	}, new(spirev1.DeleteBundleResponse))
}

// PruneBundle removes what has expired from a bundle.
func (store *DataStore) PruneBundle(
	ctx context.Context, trustDomainID string, expiresBefore time.Time,
) (bool, error) {
	c, request, err := store.begin()
	if err != nil {
		return false, err
	}
	answer := new(spirev1.PruneBundleResponse)
	err = c.mutate(ctx, spirev1.Datastore_PruneBundle_FullMethodName, &spirev1.PruneBundleRequest{
		Context: request, TrustDomainId: trustDomainID, ExpiresBeforeMicros: instantRoundedDown(expiresBefore),
	}, answer)
	return err == nil && answer.Changed, err
}

// FetchBundle finds a bundle; nil when there is none.
func (store *DataStore) FetchBundle(ctx context.Context, trustDomainID string) (*common.Bundle, error) {
	c, err := store.use()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.FetchBundleResponse)
	if err := c.read(ctx, spirev1.Datastore_FetchBundle_FullMethodName,
		&spirev1.FetchBundleRequest{Context: c.currentContext(), TrustDomainId: trustDomainID}, answer); err != nil {
		return nil, err
	}
	return bundleOut(answer.Bundle)
}

// CountBundles counts bundles.
func (store *DataStore) CountBundles(ctx context.Context) (int32, error) {
	c, err := store.use()
	if err != nil {
		return 0, err
	}
	answer := new(spirev1.CountBundlesResponse)
	if err := c.read(ctx, spirev1.Datastore_CountBundles_FullMethodName,
		&spirev1.CountBundlesRequest{Context: c.currentContext()}, answer); err != nil {
		return 0, err
	}
	return count(answer.Count)
}

// ListBundles lists bundles in the order in which they were created.
func (store *DataStore) ListBundles(
	ctx context.Context, request *datastore.ListBundlesRequest,
) (*datastore.ListBundlesResponse, error) {
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
	bundles, page, err := listInPages(request.Pagination, bundlesInOnePage,
		func(pagination *spirev1.Pagination) ([]*spirev1.Bundle, *spirev1.Pagination, error) {
			answer := new(spirev1.ListBundlesResponse)
			err := c.read(ctx, spirev1.Datastore_ListBundles_FullMethodName,
				&spirev1.ListBundlesRequest{Context: c.currentContext(), Pagination: pagination}, answer)
			return answer.GetBundles(), answer.GetPagination(), err
		})
	if err != nil {
		return nil, err
	}
	out, err := eachTried(bundles, bundleOut)
	if err != nil {
		return nil, err
	}
	return &datastore.ListBundlesResponse{Bundles: out, Pagination: pageOut(request.Pagination, page)}, nil
}

// listInPages lists as asked; a list that was asked for without pages and is too large for one answer is put together
// from pages.
func listInPages[Record any](
	asked *datastore.Pagination, pageSize int32,
	list func(*spirev1.Pagination) ([]Record, *spirev1.Pagination, error),
) ([]Record, *spirev1.Pagination, error) {
	records, page, err := list(pageIn(asked))
	if asked != nil || !isTooLarge(err) {
		return records, page, err
	}
	records = nil
	next := ""
	for {
		some, page, err := list(&spirev1.Pagination{Token: next, PageSize: pageSize})
		if err != nil {
			return nil, nil, err
		}
		if len(some) == 0 {
			return records, nil, nil
		}
		records, next = append(records, some...), page.GetToken()
	}
}

func isTooLarge(err error) bool {
	return err != nil && status.Code(err) == codes.ResourceExhausted
}

// TaintX509CA marks an X.509 authority as not to be trusted for signing.
func (store *DataStore) TaintX509CA(ctx context.Context, trustDomainID string, subjectKeyID string) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_TaintX509CA_FullMethodName, &spirev1.TaintX509CARequest{
		Context: request, TrustDomainId: trustDomainID, SubjectKeyId: subjectKeyID,
	}, new(spirev1.TaintX509CAResponse))
}

// RevokeX509CA removes a tainted X.509 authority.
func (store *DataStore) RevokeX509CA(ctx context.Context, trustDomainID string, subjectKeyID string) error {
	c, request, err := store.begin()
	if err != nil {
		return err
	}
	return c.mutate(ctx, spirev1.Datastore_RevokeX509CA_FullMethodName, &spirev1.RevokeX509CARequest{
		Context: request, TrustDomainId: trustDomainID, SubjectKeyId: subjectKeyID,
	}, new(spirev1.RevokeX509CAResponse))
}

// TaintJWTKey marks a JWT authority as not to be trusted for signing.
func (store *DataStore) TaintJWTKey(
	ctx context.Context, trustDomainID string, authorityID string,
) (*common.PublicKey, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.TaintJWTKeyResponse)
	if err := c.mutate(ctx, spirev1.Datastore_TaintJWTKey_FullMethodName, &spirev1.TaintJWTKeyRequest{
		Context: request, TrustDomainId: trustDomainID, KeyId: authorityID,
	}, answer); err != nil {
		return nil, err
	}
	return publicKeyOut(answer.Key)
}

// RevokeJWTKey removes a tainted JWT authority.
func (store *DataStore) RevokeJWTKey(
	ctx context.Context, trustDomainID string, authorityID string,
) (*common.PublicKey, error) {
	c, request, err := store.begin()
	if err != nil {
		return nil, err
	}
	answer := new(spirev1.RevokeJWTKeyResponse)
	if err := c.mutate(ctx, spirev1.Datastore_RevokeJWTKey_FullMethodName, &spirev1.RevokeJWTKeyRequest{
		Context: request, TrustDomainId: trustDomainID, KeyId: authorityID,
	}, answer); err != nil {
		return nil, err
	}
	return publicKeyOut(answer.Key)
}
