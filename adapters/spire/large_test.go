package steeple

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
	"github.com/stretchr/testify/require"
)

// What SPIRE wants whole may be larger than any message: nodes with their selectors, selectors, bundles.
func TestListsMayBeLargerThanAMessage(t *testing.T) {
	store, _ := startGroup(t, 1).store(t, "large")
	ctx := context.Background()

	const nodes, selectorsOfNode, selectorBytes = 80, 60, 15 << 10
	require.Greater(t, nodes*selectorsOfNode*selectorBytes, messageBytesMax)
	for number := range nodes {
		id := fmt.Sprint("spiffe://td/agent/", number)
		_, err := store.CreateAttestedNode(ctx, &common.AttestedNode{
			SpiffeId: id, AttestationDataType: "test", CertSerialNumber: "1",
			CertNotAfter: time.Now().Add(time.Hour).Unix(),
		})
		require.NoError(t, err)
		var selectors []*common.Selector
		for selector := range selectorsOfNode {
			value := fmt.Sprint(selector, "-", strings.Repeat("x", selectorBytes))
			selectors = append(selectors, &common.Selector{Type: "t", Value: value})
		}
		require.NoError(t, store.SetNodeSelectors(ctx, id, selectors))
	}
	listed, err := store.ListAttestedNodes(ctx, &datastore.ListAttestedNodesRequest{FetchSelectors: true})
	require.NoError(t, err)
	require.Len(t, listed.Nodes, nodes)
	require.Len(t, listed.Nodes[nodes-1].Selectors, selectorsOfNode)
	selectors, err := store.ListNodeSelectors(ctx, &datastore.ListNodeSelectorsRequest{})
	require.NoError(t, err)
	require.Len(t, selectors.Selectors, nodes)
	ids := make([]string, 0, nodes)
	for _, node := range listed.Nodes {
		ids = append(ids, node.SpiffeId)
	}
	fetched, err := store.FetchAttestedNodes(ctx, ids)
	require.NoError(t, err)
	require.Len(t, fetched, nodes)

	const bundles, bundleBytes = 5, 15 << 20
	require.Greater(t, bundles*bundleBytes, messageBytesMax)
	for number := range bundles {
		_, err := store.CreateBundle(ctx, &common.Bundle{
			TrustDomainId: fmt.Sprint("spiffe://td", number),
			RootCas:       []*common.Certificate{{DerBytes: bytes.Repeat([]byte{byte(number)}, bundleBytes)}},
		})
		require.NoError(t, err)
	}
	all, err := store.ListBundles(ctx, &datastore.ListBundlesRequest{})
	require.NoError(t, err)
	require.Len(t, all.Bundles, bundles)
	for number, bundle := range all.Bundles {
		require.Equal(t, fmt.Sprint("spiffe://td", number), bundle.TrustDomainId)
		require.Len(t, bundle.RootCas[0].DerBytes, bundleBytes)
	}
}
