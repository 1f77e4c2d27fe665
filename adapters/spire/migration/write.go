package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/private/server/journal"
	"github.com/spiffe/spire/proto/spire/common"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	trustDomain = "spiffe://example.org"
	journals    = 6
	tokens      = 20
)

var foreign = []string{"spiffe://one.example", "spiffe://two.example", "spiffe://three.example"}

// write fills a database with everything that a deployment has, and with the traces that one leaves over time.
func write(ctx context.Context, store datastore.TestableDataStore, entries, nodes, workers int) error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"bundles", func() error { return writeBundles(ctx, store) }},
		{"federation relationships", func() error { return writeRelationships(ctx, store) }},
		{"nodes", func() error { return writeNodes(ctx, store, nodes) }},
		{"entries", func() error { return writeEntries(ctx, store, entries, nodes, workers) }},
		{"join tokens", func() error { return writeTokens(ctx, store) }},
		{"journals", func() error { return writeJournals(ctx, store) }},
		{"holes", func() error { return leaveHoles(ctx, store) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("writing %s: %w", step.what, err)
		}
	}
	return nil
}

func key(id string, tainted bool) *common.PublicKey {
	return &common.PublicKey{PkixBytes: []byte("key " + id), Kid: id, NotAfter: 1_900_000_000, TaintedKey: tainted}
}

func writeBundles(ctx context.Context, store datastore.DataStore) error {
	for index, id := range append([]string{trustDomain}, foreign...) {
		bundle := &common.Bundle{
			TrustDomainId:  id,
			RootCas:        []*common.Certificate{{DerBytes: []byte("certificate of " + id), TaintedKey: index == 1}},
			JwtSigningKeys: []*common.PublicKey{key(id+"-a", false), key(id+"-b", index == 0)},
			RefreshHint:    int64(index * 60),
			SequenceNumber: uint64(index),
		}
		// A field that a later version of SPIRE may have.
		bundle.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 77, protowire.BytesType), "later"))
		if _, err := store.CreateBundle(ctx, bundle); err != nil {
			return err
		}
	}
	_, err := store.AppendBundle(ctx, &common.Bundle{
		TrustDomainId: trustDomain, RootCas: []*common.Certificate{{DerBytes: []byte("second certificate")}},
	})
	return err
}

func writeRelationships(ctx context.Context, store datastore.DataStore) error {
	for index, id := range foreign {
		name := spiffeid.RequireTrustDomainFromString(id)
		relationship := &datastore.FederationRelationship{
			TrustDomain:           name,
			BundleEndpointURL:     mustURL("https://" + name.Name() + "/bundle"),
			BundleEndpointProfile: datastore.BundleEndpointWeb,
		}
		if index == 1 {
			relationship.BundleEndpointProfile = datastore.BundleEndpointSPIFFE
			relationship.EndpointSPIFFEID = spiffeid.RequireFromString(id + "/bundle")
		}
		if _, err := store.CreateFederationRelationship(ctx, relationship); err != nil {
			return err
		}
	}
	return nil
}

func nodeID(index int) string {
	return fmt.Sprintf("%s/spire/agent/k8s_psat/cluster/%05d", trustDomain, index)
}

func writeNodes(ctx context.Context, store datastore.DataStore, count int) error {
	for index := range count {
		node := &common.AttestedNode{
			SpiffeId:            nodeID(index),
			AttestationDataType: []string{"k8s_psat", "join_token", "x509pop"}[index%3],
			CertSerialNumber:    fmt.Sprint(1_000_000 + index),
			CertNotAfter:        1_800_000_000 + int64(index),
			CanReattest:         index%2 == 0,
			AgentVersion:        "1.15.3",
		}
		if index%5 == 0 {
			node.NewCertSerialNumber, node.NewCertNotAfter = fmt.Sprint(2_000_000+index), 1_800_003_600
		}
		if index%97 == 0 {
			node.CertSerialNumber = "" // banned
		}
		if _, err := store.CreateAttestedNode(ctx, node); err != nil {
			return err
		}
		var selectors []*common.Selector
		for number := range index % 4 {
			selectors = append(selectors, &common.Selector{Type: "k8s_psat", Value: fmt.Sprintf("label:%d:%d", number, index)})
		}
		if len(selectors) > 0 {
			if err := store.SetNodeSelectors(ctx, node.SpiffeId, selectors); err != nil {
				return err
			}
		}
	}
	// Selectors of a node that does not exist.
	return store.SetNodeSelectors(ctx, trustDomain+"/gone", []*common.Selector{{Type: "a", Value: "b"}})
}

func entryOf(index, nodes int) *common.RegistrationEntry {
	entry := &common.RegistrationEntry{
		ParentId:       nodeID(index % max(nodes, 1)),
		SpiffeId:       fmt.Sprintf("%s/workload/ü-%06d", trustDomain, index),
		X509SvidTtl:    int32(index % 3 * 600),
		JwtSvidTtl:     int32(index % 2 * 300),
		Admin:          index%50 == 1,
		Downstream:     index%60 == 2,
		Selectors:      []*common.Selector{{Type: "k8s", Value: fmt.Sprintf("sa:%06d", index)}},
		RevisionNumber: 0,
	}
	for number := range index % 3 {
		entry.Selectors = append(entry.Selectors, &common.Selector{Type: "k8s", Value: fmt.Sprintf("ns:%d", number)})
		entry.DnsNames = append(entry.DnsNames, fmt.Sprintf("z%d.w%d.example.org", 9-number, index))
	}
	switch index % 7 {
	case 1:
		entry.FederatesWith = foreign[:1]
	case 2:
		entry.FederatesWith = []string{foreign[2], foreign[0]}
	}
	switch index % 11 {
	case 3:
		entry.Hint = "internal"
	case 4:
		entry.EntryExpiry = 1_900_000_000 + int64(index)
	case 5:
		entry.StoreSvid = true
	case 6:
		entry.AdditionalAttributes = &common.RegistrationEntry_AdditionalAttributes{DisableX509SvidPrefetch: true}
	}
	return entry
}

func writeEntries(ctx context.Context, store datastore.DataStore, count, nodes, workers int) error {
	indexes := make(chan int)
	failures := make(chan error, workers)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for index := range indexes {
				if err := writeEntry(ctx, store, index, nodes); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	var failed error
feed:
	for index := range count {
		select {
		case indexes <- index:
		case failed = <-failures:
			break feed
		}
	}
	close(indexes)
	running.Wait()
	select {
	case failed = <-failures:
	default:
	}
	return failed
}

func writeEntry(ctx context.Context, store datastore.DataStore, index, nodes int) error {
	entry, err := store.CreateRegistrationEntry(ctx, entryOf(index, nodes))
	if err != nil {
		return err
	}
	if index%20 == 0 {
		entry.Hint = "changed"
		if _, err = store.UpdateRegistrationEntry(ctx, entry, &common.RegistrationEntryMask{Hint: true}); err != nil {
			return err
		}
	}
	return nil
}

func tokenOf(index int) *datastore.JoinToken {
	return &datastore.JoinToken{Token: fmt.Sprintf("token-%d", index), Expiry: time.Unix(1_700_000_000+int64(index)*20_000_000, 0)}
}

func writeTokens(ctx context.Context, store datastore.DataStore) error {
	for index := range tokens {
		if err := store.CreateJoinToken(ctx, tokenOf(index)); err != nil {
			return err
		}
	}
	return nil
}

func authorityID(index int) string {
	return fmt.Sprintf("%040x", 0xabc0+index)
}

func writeJournals(ctx context.Context, store datastore.DataStore) error {
	for index := range journals {
		data, err := proto.Marshal(&journal.Entries{X509CAs: []*journal.X509CAEntry{{
			SlotId: "A", AuthorityId: authorityID(index), NotAfter: 1_600_000_000 + int64(index)*100_000_000,
			Certificate: []byte{byte(index)},
		}}})
		if err != nil {
			return err
		}
		if _, err = store.SetCAJournal(ctx, &datastore.CAJournal{Data: data, ActiveX509AuthorityID: authorityID(index)}); err != nil {
			return err
		}
	}
	// So that the first numbers are missing.
	return store.PruneCAJournals(ctx, 1_750_000_000)
}

// leaveHoles deletes some of everything, and events from the middle of both streams.
func leaveHoles(ctx context.Context, store datastore.TestableDataStore) error {
	list, err := store.ListRegistrationEntries(ctx, &datastore.ListRegistrationEntriesRequest{})
	if err != nil {
		return err
	}
	for index, entry := range list.Entries {
		if index%500 == 7 {
			if _, err = store.DeleteRegistrationEntry(ctx, entry.EntryId); err != nil {
				return err
			}
		}
	}
	for _, event := range []uint{3, 4, 9} {
		if err = store.DeleteRegistrationEntryEventForTesting(ctx, event); err != nil {
			return err
		}
		if err = store.DeleteAttestedNodeEventForTesting(ctx, event); err != nil {
			return err
		}
	}
	return store.DeleteJoinToken(ctx, tokenOf(5).Token)
}
