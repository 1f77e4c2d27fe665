package main

import (
	"context"
	"fmt"
	"net/url"
	"sort"

	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
	"google.golang.org/protobuf/proto"
)

// pageSize is no divisor of anything.
const pageSize = 777

func mustURL(text string) *url.URL {
	parsed, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return parsed
}

// compare asks both stores everything and fails at the first difference.
func compare(ctx context.Context, old datastore.TestableDataStore, imported datastore.DataStore) error {
	for _, step := range []struct {
		what string
		do   func() (int, error)
	}{
		{"bundles", func() (int, error) { return compareBundles(ctx, old, imported) }},
		{"federation relationships", func() (int, error) { return compareRelationships(ctx, old, imported) }},
		{"entries", func() (int, error) { return compareEntries(ctx, old, imported) }},
		{"agents", func() (int, error) { return compareNodes(ctx, old, imported) }},
		{"agents with selectors", func() (int, error) { return compareNodeSelectors(ctx, old, imported) }},
		{"join tokens", func() (int, error) { return compareTokens(ctx, old, imported) }},
		{"CA journals", func() (int, error) { return compareJournals(ctx, old, imported) }},
	} {
		count, err := step.do()
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Printf("%d %s are equal\n", count, step.what)
	}
	return nil
}

// page asks for so many records. SPIRE's datastore changes what it is handed, so every call gets its own.
func page(size int32, token string) *datastore.Pagination {
	return &datastore.Pagination{PageSize: size, Token: token}
}

func same[M proto.Message](left, right []M) error {
	if len(left) != len(right) {
		return fmt.Errorf("%d in the database, %d in Steeple", len(left), len(right))
	}
	for index := range left {
		if !proto.Equal(left[index], right[index]) {
			return fmt.Errorf("number %d differs: %v in the database, %v in Steeple", index+1, left[index], right[index])
		}
	}
	return nil
}

func compareBundles(ctx context.Context, old, imported datastore.DataStore) (int, error) {
	// A page has an order; a whole list has none in some databases.
	left, err := old.ListBundles(ctx, &datastore.ListBundlesRequest{Pagination: page(1_000, "")})
	if err != nil {
		return 0, err
	}
	right, err := imported.ListBundles(ctx, &datastore.ListBundlesRequest{Pagination: page(1_000, "")})
	if err != nil {
		return 0, err
	}
	return len(left.Bundles), same(left.Bundles, right.Bundles)
}

func compareRelationships(ctx context.Context, old, imported datastore.DataStore) (int, error) {
	left, err := old.ListFederationRelationships(ctx, &datastore.ListFederationRelationshipsRequest{Pagination: page(1_000, "")})
	if err != nil {
		return 0, err
	}
	right, err := imported.ListFederationRelationships(ctx, &datastore.ListFederationRelationshipsRequest{Pagination: page(1_000, "")})
	if err != nil {
		return 0, err
	}
	if len(left.FederationRelationships) != len(right.FederationRelationships) {
		return 0, fmt.Errorf("%d in the database, %d in Steeple", len(left.FederationRelationships), len(right.FederationRelationships))
	}
	for index, one := range left.FederationRelationships {
		other := right.FederationRelationships[index]
		equal := one.TrustDomain == other.TrustDomain && one.BundleEndpointURL.String() == other.BundleEndpointURL.String() &&
			one.BundleEndpointProfile == other.BundleEndpointProfile && one.EndpointSPIFFEID == other.EndpointSPIFFEID &&
			proto.Equal(one.TrustDomainBundle, other.TrustDomainBundle)
		if !equal {
			return 0, fmt.Errorf("%v in the database, %v in Steeple", one, other)
		}
	}
	return len(left.FederationRelationships), nil
}

// entries reads page by page: that is where order shows. What the database returns in index order is put into one.
func entries(ctx context.Context, store datastore.DataStore) ([]*common.RegistrationEntry, error) {
	var all []*common.RegistrationEntry
	next := page(pageSize, "")
	for {
		list, err := store.ListRegistrationEntries(ctx, &datastore.ListRegistrationEntriesRequest{Pagination: next})
		if err != nil {
			return nil, err
		}
		if len(list.Entries) == 0 {
			break
		}
		all = append(all, list.Entries...)
		next = page(pageSize, list.Pagination.Token)
	}
	for _, entry := range all {
		sort.Strings(entry.FederatesWith)
		sort.Strings(entry.DnsNames)
		sortSelectors(entry.Selectors)
	}
	return all, nil
}

func sortSelectors(selectors []*common.Selector) {
	sort.Slice(selectors, func(one, other int) bool {
		return selectors[one].Type+"\x00"+selectors[one].Value < selectors[other].Type+"\x00"+selectors[other].Value
	})
}

func compareEntries(ctx context.Context, old, imported datastore.DataStore) (int, error) {
	left, err := entries(ctx, old)
	if err != nil {
		return 0, err
	}
	right, err := entries(ctx, imported)
	if err != nil {
		return 0, err
	}
	return len(left), same(left, right)
}

func nodes(ctx context.Context, store datastore.DataStore) ([]*common.AttestedNode, error) {
	var all []*common.AttestedNode
	next := page(pageSize, "")
	for {
		list, err := store.ListAttestedNodes(ctx, &datastore.ListAttestedNodesRequest{Pagination: next, FetchSelectors: true})
		if err != nil {
			return nil, err
		}
		if len(list.Nodes) == 0 {
			break
		}
		all = append(all, list.Nodes...)
		next = page(pageSize, list.Pagination.Token)
	}
	for _, node := range all {
		sortSelectors(node.Selectors)
	}
	return all, nil
}

func compareNodes(ctx context.Context, old, imported datastore.DataStore) (int, error) {
	left, err := nodes(ctx, old)
	if err != nil {
		return 0, err
	}
	right, err := nodes(ctx, imported)
	if err != nil {
		return 0, err
	}
	return len(left), same(left, right)
}

func compareNodeSelectors(ctx context.Context, old, imported datastore.DataStore) (int, error) {
	left, err := old.ListNodeSelectors(ctx, &datastore.ListNodeSelectorsRequest{})
	if err != nil {
		return 0, err
	}
	right, err := imported.ListNodeSelectors(ctx, &datastore.ListNodeSelectorsRequest{})
	if err != nil {
		return 0, err
	}
	if len(left.Selectors) != len(right.Selectors) {
		return 0, fmt.Errorf("%d in the database, %d in Steeple", len(left.Selectors), len(right.Selectors))
	}
	for id, selectors := range left.Selectors {
		others := right.Selectors[id]
		sortSelectors(selectors)
		sortSelectors(others)
		if err := same(selectors, others); err != nil {
			return 0, fmt.Errorf("%s: %w", id, err)
		}
	}
	return len(left.Selectors), nil
}

func compareTokens(ctx context.Context, old, imported datastore.DataStore) (int, error) {
	found := 0
	for index := range tokens {
		left, err := old.FetchJoinToken(ctx, tokenOf(index).Token)
		if err != nil {
			return 0, err
		}
		right, err := imported.FetchJoinToken(ctx, tokenOf(index).Token)
		if err != nil {
			return 0, err
		}
		if (left == nil) != (right == nil) || left != nil && (left.Token != right.Token || !left.Expiry.Equal(right.Expiry)) {
			return 0, fmt.Errorf("number %d differs", index)
		}
		if left != nil {
			found++
		}
	}
	return found, nil
}

func compareJournals(ctx context.Context, old datastore.TestableDataStore, imported datastore.DataStore) (int, error) {
	list, err := old.ListCAJournalsForTesting(ctx)
	if err != nil {
		return 0, err
	}
	for _, left := range list {
		right, err := imported.FetchCAJournal(ctx, left.ActiveX509AuthorityID)
		if err != nil {
			return 0, err
		}
		if right == nil || left.ID != right.ID || string(left.Data) != string(right.Data) {
			return 0, fmt.Errorf("journal %d differs", left.ID)
		}
	}
	return len(list), nil
}
