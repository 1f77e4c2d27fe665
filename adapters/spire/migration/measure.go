package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
)

const (
	// scanPage is how many entries a server asks for when it loads all.
	scanPage = 10_000
	// entriesOfAgent is how many entries each agent has, and each service.
	entriesOfAgent = 50
	// stride leads from one entry to another one far away; it has no factor in common with the number of entries.
	stride = 7919
	// beyondAll is an event that was never made.
	beyondAll = 1 << 30
)

// measurement times calls of SPIRE's datastore: what the statements in benches/benches/sql cost in the hands of their owner.
type measurement struct {
	store   datastore.DataStore
	entries int
	length  time.Duration
	out     io.Writer
	// next is the number of the next entry that is created.
	next atomic.Int64
}

// measure creates entries and asks for them, with one caller and with several.
func measure(
	ctx context.Context, store datastore.DataStore, entries, callers int, length time.Duration, out io.Writer,
) error {
	if entries < entriesOfAgent || callers < 1 {
		return fmt.Errorf("at least %d entries and one caller are needed", entriesOfAgent)
	}
	if err := writeBundles(ctx, store); err != nil {
		return err
	}
	m := &measurement{store: store, entries: entries, length: length, out: out}
	create := func(int) error {
		_, err := store.CreateRegistrationEntry(ctx, m.entry(int(m.next.Add(1)-1)))
		return err
	}
	if err := m.run("create all", callers, func() bool { return int(m.next.Load()) < entries }, create); err != nil {
		return err
	}
	for _, callers := range []int{1, callers} {
		for _, call := range []struct {
			name string
			do   func(number int) error
		}{
			{"fetch", func(number int) error {
				_, err := store.FetchRegistrationEntry(ctx, m.entry(number).EntryId)
				return err
			}},
			{"list by parent", m.list(ctx, func(entry *common.RegistrationEntry) *datastore.ListRegistrationEntriesRequest {
				return &datastore.ListRegistrationEntriesRequest{ByParentID: entry.ParentId}
			})},
			{"list by selectors, exact", m.list(ctx, func(entry *common.RegistrationEntry) *datastore.ListRegistrationEntriesRequest {
				selectors := &datastore.BySelectors{Match: datastore.Exact, Selectors: entry.Selectors}
				return &datastore.ListRegistrationEntriesRequest{BySelectors: selectors}
			})},
			{"events after the last", func(int) error {
				_, err := store.ListRegistrationEntryEvents(ctx, &datastore.ListRegistrationEntryEventsRequest{GreaterThanEventID: beyondAll})
				return err
			}},
			{"create", create},
		} {
			if err := m.runFor(call.name, callers, call.do); err != nil {
				return err
			}
		}
	}
	return m.runFor("full paged scan", 1, func(int) error { return scan(ctx, store) })
}

// entry is one of a deployment in which every agent and every service has as many.
func (m *measurement) entry(number int) *common.RegistrationEntry {
	agents := m.entries / entriesOfAgent
	agent := number % agents
	service := (agent + number/agents*3) % agents
	if number >= m.entries {
		agent = number
	}
	image := service % 300
	entry := &common.RegistrationEntry{
		EntryId:  fmt.Sprintf("%08x-0000-4000-8000-%012x", number, number),
		ParentId: fmt.Sprintf("%s/spire/agent/k8s_psat/cluster-%d/%032x", trustDomain, agent%5, agent),
		SpiffeId: fmt.Sprintf("%s/ns/ns-%d/sa/service-account-%d", trustDomain, service%40, service),
		Selectors: []*common.Selector{
			{Type: "k8s", Value: fmt.Sprintf("ns:ns-%d", service%40)},
			{Type: "k8s", Value: fmt.Sprintf("sa:service-account-%d", service)},
			{Type: "k8s", Value: fmt.Sprintf("container-image:registry.example.org/team-%d/image-%d@sha256:%016x", image%9, image, image)},
		},
		DnsNames: []string{
			fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local", service, service%40),
			fmt.Sprintf("pod-%08x.svc-%d.prod.example.org", number, service),
		},
		X509SvidTtl: 3600,
		JwtSvidTtl:  300,
	}
	if number%7 == 0 {
		entry.FederatesWith = foreign[:1]
	}
	return entry
}

func (m *measurement) list(
	ctx context.Context, request func(*common.RegistrationEntry) *datastore.ListRegistrationEntriesRequest,
) func(int) error {
	return func(number int) error {
		answer, err := m.store.ListRegistrationEntries(ctx, request(m.entry(number)))
		if err == nil && len(answer.Entries) == 0 {
			return fmt.Errorf("a list is empty")
		}
		return err
	}
}

func scan(ctx context.Context, store datastore.DataStore) error {
	for token := ""; ; {
		answer, err := store.ListRegistrationEntries(ctx, &datastore.ListRegistrationEntriesRequest{
			Pagination: &datastore.Pagination{PageSize: scanPage, Token: token},
		})
		if err != nil || answer.Pagination.Token == "" {
			return err
		}
		token = answer.Pagination.Token
	}
}

func (m *measurement) runFor(name string, callers int, do func(number int) error) error {
	end := time.Now().Add(m.length)
	return m.run(name, callers, func() bool { return time.Now().Before(end) }, do)
}

// run calls again and again while more is wanted, each caller at least once, and prints how often in a second and how long it took.
func (m *measurement) run(name string, callers int, more func() bool, do func(number int) error) error {
	took := make([][]time.Duration, callers)
	failures := make([]error, callers)
	var running sync.WaitGroup
	begun := time.Now()
	for caller := range callers {
		running.Go(func() {
			for turn := caller; ; turn += callers {
				started := time.Now()
				if failures[caller] = do(turn * stride % m.entries); failures[caller] != nil {
					return
				}
				took[caller] = append(took[caller], time.Since(started))
				if !more() {
					return
				}
			}
		})
	}
	running.Wait()
	elapsed := time.Since(begun)
	for _, err := range failures {
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	_, err := fmt.Fprintf(m.out, "%-26s %4d callers %10.1f a second, p50 %v, p99 %v\n", name, callers,
		float64(len(all))/elapsed.Seconds(), all[len(all)/2], all[len(all)*99/100])
	return err
}
