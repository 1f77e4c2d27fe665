package steeple

import (
	"bytes"
	"fmt"
	"math"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/proto/spire/common"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"steeple.internal/adapters/spire/internal/wire/spirev1"
)

// Everything that goes in either direction is copied: what a caller handed in is not kept, and each answer is its own.

// Numbers of the fields that our messages have as well. What else is in a message of SPIRE's, from a later version of it
// for example, travels encoded and comes back as it was.
const (
	bundleFields      = 6
	certificateFields = 2
	publicKeyFields   = 4
	attributesFields  = 2
)

// otherFields encodes what a message has beside its fields up to a number.
func otherFields(message proto.Message, known protoreflect.FieldNumber) ([]byte, error) {
	reflected := message.ProtoReflect()
	others := false
	reflected.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		others = field.Number() > known
		return !others
	})
	if !others {
		return bytes.Clone(reflected.GetUnknown()), nil
	}
	rest := proto.Clone(message)
	rest.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if field.Number() <= known {
			rest.ProtoReflect().Clear(field)
		}
		return true
	})
	return proto.MarshalOptions{Deterministic: true}.Marshal(rest)
}

// mergeFields puts back what otherFields took.
func mergeFields(message proto.Message, encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	if err := (proto.UnmarshalOptions{Merge: true}).Unmarshal(encoded, message); err != nil {
		return status.Errorf(codes.Internal, "a stored message cannot be read: %s", err)
	}
	return nil
}

// each converts the elements of a list; an empty one becomes nil.
func each[From, To any](list []From, convert func(From) To) []To {
	if len(list) == 0 {
		return nil
	}
	converted := make([]To, 0, len(list))
	for _, element := range list {
		converted = append(converted, convert(element))
	}
	return converted
}

// eachTried is each for conversions that can fail.
func eachTried[From, To any](list []From, convert func(From) (To, error)) ([]To, error) {
	if len(list) == 0 {
		return nil, nil
	}
	converted := make([]To, 0, len(list))
	for _, element := range list {
		to, err := convert(element)
		if err != nil {
			return nil, err
		}
		converted = append(converted, to)
	}
	return converted, nil
}

func copied(list []string) []string {
	return each(list, func(text string) string { return text })
}

// Times. Zero means absent on both sides. Records have whole seconds and instants are microseconds, so an instant
// between two microseconds is moved to the one that compares alike with every whole second.

func instant(t time.Time, micros int64) int64 {
	switch {
	case t.IsZero():
		return 0
	case micros == 0:
		// The epoch itself is no absent time; nothing is stored that expires between it and this.
		return -1
	default:
		return micros
	}
}

// instantRoundedUp is for conditions "before it" and "at or after it".
func instantRoundedUp(t time.Time) int64 {
	micros := t.UnixMicro()
	if t.Nanosecond()%int(time.Microsecond) != 0 {
		micros++
	}
	return instant(t, micros)
}

// instantRoundedDown is for conditions "after it" and "at or before it".
func instantRoundedDown(t time.Time) int64 {
	return instant(t, t.UnixMicro())
}

// age is a duration in microseconds.
func age(duration time.Duration) (int64, error) {
	if duration < 0 {
		return 0, errDurationOutOfRange
	}
	return duration.Microseconds(), nil
}

func count(value int32) (int32, error) {
	if value < 0 {
		return 0, errCountOutOfRange
	}
	return value, nil
}

// Selectors.

func selectorIn(selector *common.Selector) *spirev1.Selector {
	return &spirev1.Selector{Type: selector.GetType(), Value: selector.GetValue()}
}

func selectorOut(selector *spirev1.Selector) *common.Selector {
	return &common.Selector{Type: selector.GetType(), Value: selector.GetValue()}
}

func bySelectorsIn(by *datastore.BySelectors) *spirev1.BySelectors {
	if by == nil {
		return nil
	}
	return &spirev1.BySelectors{
		Match: spirev1.MatchBehavior(by.Match), Selectors: each(by.Selectors, selectorIn),
	}
}

// Bundles.

func certificateIn(certificate *common.Certificate) (*spirev1.Certificate, error) {
	others, err := otherFields(certificate, certificateFields)
	return &spirev1.Certificate{
		DerBytes: bytes.Clone(certificate.GetDerBytes()), TaintedKey: certificate.GetTaintedKey(), UnknownFields: others,
	}, err
}

func certificateOut(certificate *spirev1.Certificate) (*common.Certificate, error) {
	out := &common.Certificate{DerBytes: certificate.GetDerBytes(), TaintedKey: certificate.GetTaintedKey()}
	return out, mergeFields(out, certificate.GetUnknownFields())
}

func publicKeyIn(key *common.PublicKey) (*spirev1.PublicKey, error) {
	others, err := otherFields(key, publicKeyFields)
	return &spirev1.PublicKey{
		PkixBytes: bytes.Clone(key.GetPkixBytes()), Kid: key.GetKid(), NotAfter: key.GetNotAfter(),
		TaintedKey: key.GetTaintedKey(), UnknownFields: others,
	}, err
}

func publicKeyOut(key *spirev1.PublicKey) (*common.PublicKey, error) {
	if key == nil {
		return nil, errAnswerIncomplete
	}
	out := &common.PublicKey{
		PkixBytes: key.GetPkixBytes(), Kid: key.GetKid(), NotAfter: key.GetNotAfter(), TaintedKey: key.GetTaintedKey(),
	}
	return out, mergeFields(out, key.GetUnknownFields())
}

func bundleIn(bundle *common.Bundle) (in *spirev1.Bundle, err error) {
	if bundle == nil {
		return nil, nil
	}
	in = &spirev1.Bundle{
		TrustDomainId: bundle.TrustDomainId, RefreshHint: bundle.RefreshHint, SequenceNumber: bundle.SequenceNumber,
	}
	if in.RootCas, err = eachTried(bundle.RootCas, certificateIn); err != nil {
		return nil, err
	}
	if in.JwtSigningKeys, err = eachTried(bundle.JwtSigningKeys, publicKeyIn); err != nil {
		return nil, err
	}
	if in.WitSigningKeys, err = eachTried(bundle.WitSigningKeys, publicKeyIn); err != nil {
		return nil, err
	}
	in.UnknownFields, err = otherFields(bundle, bundleFields)
	return in, err
}

func bundleOut(bundle *spirev1.Bundle) (out *common.Bundle, err error) {
	if bundle == nil {
		return nil, nil
	}
	out = &common.Bundle{
		TrustDomainId: bundle.TrustDomainId, RefreshHint: bundle.RefreshHint, SequenceNumber: bundle.SequenceNumber,
	}
	if out.RootCas, err = eachTried(bundle.RootCas, certificateOut); err != nil {
		return nil, err
	}
	if out.JwtSigningKeys, err = eachTried(bundle.JwtSigningKeys, publicKeyOut); err != nil {
		return nil, err
	}
	if out.WitSigningKeys, err = eachTried(bundle.WitSigningKeys, publicKeyOut); err != nil {
		return nil, err
	}
	return out, mergeFields(out, bundle.UnknownFields)
}

func bundleMaskIn(mask *common.BundleMask) *spirev1.BundleMask {
	if mask == nil {
		return nil
	}
	return &spirev1.BundleMask{
		RootCas: mask.RootCas, JwtSigningKeys: mask.JwtSigningKeys, RefreshHint: mask.RefreshHint,
		SequenceNumber: mask.SequenceNumber, X509TaintedKeys: mask.X509TaintedKeys, WitSigningKeys: mask.WitSigningKeys,
	}
}

// Registration entries.

func entryIn(entry *common.RegistrationEntry) (*spirev1.RegistrationEntry, error) {
	if entry == nil {
		return nil, nil
	}
	in := &spirev1.RegistrationEntry{
		Selectors: each(entry.Selectors, selectorIn), ParentId: entry.ParentId, SpiffeId: entry.SpiffeId,
		X509SvidTtl: entry.X509SvidTtl, FederatesWith: copied(entry.FederatesWith), EntryId: entry.EntryId,
		Admin: entry.Admin, Downstream: entry.Downstream, EntryExpiry: entry.EntryExpiry, DnsNames: copied(entry.DnsNames),
		RevisionNumber: entry.RevisionNumber, StoreSvid: entry.StoreSvid, JwtSvidTtl: entry.JwtSvidTtl, Hint: entry.Hint,
		CreatedAt: entry.CreatedAt,
	}
	if attributes := entry.AdditionalAttributes; attributes != nil {
		others, err := otherFields(attributes, attributesFields)
		if err != nil {
			return nil, err
		}
		in.AdditionalAttributes = &spirev1.AdditionalAttributes{
			DisableX509SvidPrefetch: attributes.DisableX509SvidPrefetch, JwtSvidIncludeJti: attributes.JwtSvidIncludeJti,
			UnknownFields: others,
		}
	}
	return in, nil
}

func entryOut(entry *spirev1.RegistrationEntry) (*common.RegistrationEntry, error) {
	if entry == nil {
		return nil, nil
	}
	out := &common.RegistrationEntry{
		Selectors: each(entry.Selectors, selectorOut), ParentId: entry.ParentId, SpiffeId: entry.SpiffeId,
		X509SvidTtl: entry.X509SvidTtl, FederatesWith: copied(entry.FederatesWith), EntryId: entry.EntryId,
		Admin: entry.Admin, Downstream: entry.Downstream, EntryExpiry: entry.EntryExpiry, DnsNames: copied(entry.DnsNames),
		RevisionNumber: entry.RevisionNumber, StoreSvid: entry.StoreSvid, JwtSvidTtl: entry.JwtSvidTtl, Hint: entry.Hint,
		CreatedAt: entry.CreatedAt,
	}
	if attributes := entry.AdditionalAttributes; attributes != nil {
		out.AdditionalAttributes = &common.RegistrationEntry_AdditionalAttributes{
			DisableX509SvidPrefetch: attributes.DisableX509SvidPrefetch, JwtSvidIncludeJti: attributes.JwtSvidIncludeJti,
		}
		if err := mergeFields(out.AdditionalAttributes, attributes.UnknownFields); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// entryAnswered is entryOut for calls that always answer with an entry.
func entryAnswered(entry *spirev1.RegistrationEntry) (*common.RegistrationEntry, error) {
	if entry == nil {
		return nil, errAnswerIncomplete
	}
	return entryOut(entry)
}

func entryMaskIn(mask *common.RegistrationEntryMask) *spirev1.RegistrationEntryMask {
	if mask == nil {
		return nil
	}
	return &spirev1.RegistrationEntryMask{
		Selectors: mask.Selectors, ParentId: mask.ParentId, SpiffeId: mask.SpiffeId, X509SvidTtl: mask.X509SvidTtl,
		FederatesWith: mask.FederatesWith, EntryId: mask.EntryId, Admin: mask.Admin, Downstream: mask.Downstream,
		EntryExpiry: mask.EntryExpiry, DnsNames: mask.DnsNames, StoreSvid: mask.StoreSvid, JwtSvidTtl: mask.JwtSvidTtl,
		Hint: mask.Hint, AdditionalAttributes: mask.AdditionalAttributes,
	}
}

func byFederatesWithIn(by *datastore.ByFederatesWith) *spirev1.ByFederatesWith {
	if by == nil {
		return nil
	}
	return &spirev1.ByFederatesWith{
		Match: spirev1.MatchBehavior(by.Match), TrustDomainIds: copied(by.TrustDomains),
	}
}

// Attested nodes.

func nodeIn(attested *common.AttestedNode) *spirev1.AttestedNode {
	if attested == nil {
		return nil
	}
	return &spirev1.AttestedNode{
		SpiffeId: attested.SpiffeId, AttestationDataType: attested.AttestationDataType,
		CertSerialNumber: attested.CertSerialNumber, CertNotAfter: attested.CertNotAfter,
		NewCertSerialNumber: attested.NewCertSerialNumber, NewCertNotAfter: attested.NewCertNotAfter,
		Selectors: each(attested.Selectors, selectorIn), CanReattest: attested.CanReattest,
		AgentVersion: attested.AgentVersion,
	}
}

func nodeOut(attested *spirev1.AttestedNode) *common.AttestedNode {
	if attested == nil {
		return nil
	}
	return &common.AttestedNode{
		SpiffeId: attested.SpiffeId, AttestationDataType: attested.AttestationDataType,
		CertSerialNumber: attested.CertSerialNumber, CertNotAfter: attested.CertNotAfter,
		NewCertSerialNumber: attested.NewCertSerialNumber, NewCertNotAfter: attested.NewCertNotAfter,
		Selectors: each(attested.Selectors, selectorOut), CanReattest: attested.CanReattest,
		AgentVersion: attested.AgentVersion,
	}
}

func nodeAnswered(attested *spirev1.AttestedNode) (*common.AttestedNode, error) {
	if attested == nil {
		return nil, errAnswerIncomplete
	}
	return nodeOut(attested), nil
}

func nodeMaskIn(mask *common.AttestedNodeMask) *spirev1.AttestedNodeMask {
	if mask == nil {
		return nil
	}
	return &spirev1.AttestedNodeMask{
		AttestationDataType: mask.AttestationDataType, CertSerialNumber: mask.CertSerialNumber,
		CertNotAfter: mask.CertNotAfter, NewCertSerialNumber: mask.NewCertSerialNumber,
		NewCertNotAfter: mask.NewCertNotAfter, CanReattest: mask.CanReattest, AgentVersion: mask.AgentVersion,
	}
}

// Pages.

// checkPage is what has to be refused before anything is asked of a store.
func checkPage(pagination *datastore.Pagination) error {
	if pagination != nil && pagination.PageSize == 0 {
		return errPageSize
	}
	return nil
}

func pageIn(pagination *datastore.Pagination) *spirev1.Pagination {
	if pagination == nil {
		return nil
	}
	return &spirev1.Pagination{Token: pagination.Token, PageSize: pagination.PageSize}
}

func pageOut(asked *datastore.Pagination, answered *spirev1.Pagination) *datastore.Pagination {
	if asked == nil {
		return nil
	}
	return &datastore.Pagination{Token: answered.GetToken(), PageSize: asked.PageSize}
}

// Federation relationships.

// checkRelationship refuses what cannot be sent; the rest is refused by the node with the same texts.
func checkRelationship(relationship *datastore.FederationRelationship, mask *types.FederationRelationshipMask) error {
	switch {
	case relationship == nil:
		return errRelationshipNil
	case relationship.TrustDomain.IsZero():
		return errTrustDomain
	case relationship.BundleEndpointURL == nil && (mask == nil || mask.BundleEndpointUrl):
		return errBundleEndpointURL
	}
	if mask != nil && !mask.BundleEndpointProfile {
		return nil
	}
	switch relationship.BundleEndpointProfile {
	case datastore.BundleEndpointWeb:
	case datastore.BundleEndpointSPIFFE:
		if relationship.EndpointSPIFFEID.IsZero() {
			return errBundleEndpointID
		}
	default:
		return status.Errorf(codes.InvalidArgument,
			"unknown bundle endpoint profile type: %q", relationship.BundleEndpointProfile)
	}
	return nil
}

func relationshipIn(relationship *datastore.FederationRelationship) (*spirev1.FederationRelationship, error) {
	bundle, err := bundleIn(relationship.TrustDomainBundle)
	if err != nil {
		return nil, err
	}
	in := &spirev1.FederationRelationship{
		TrustDomain: relationship.TrustDomain.Name(), BundleEndpointProfile: string(relationship.BundleEndpointProfile),
		TrustDomainBundle: bundle,
	}
	if relationship.BundleEndpointURL != nil {
		in.BundleEndpointUrl = relationship.BundleEndpointURL.String()
	}
	if !relationship.EndpointSPIFFEID.IsZero() {
		in.EndpointSpiffeId = relationship.EndpointSPIFFEID.String()
	}
	return in, nil
}

func relationshipMaskIn(mask *types.FederationRelationshipMask) *spirev1.FederationRelationshipMask {
	if mask == nil {
		return nil
	}
	return &spirev1.FederationRelationshipMask{
		BundleEndpointUrl: mask.BundleEndpointUrl, BundleEndpointProfile: mask.BundleEndpointProfile,
		TrustDomainBundle: mask.TrustDomainBundle,
	}
}

// relationshipOut parses what is stored as text. What does not parse is an error, and not an absent relationship.
func relationshipOut(relationship *spirev1.FederationRelationship) (*datastore.FederationRelationship, error) {
	endpoint, err := url.Parse(relationship.BundleEndpointUrl)
	if err != nil {
		return nil, status.Errorf(codes.Unknown, "unable to parse URL: %s", err)
	}
	trustDomain, err := spiffeid.TrustDomainFromString(relationship.TrustDomain)
	if err != nil {
		return nil, status.Errorf(codes.Unknown, "datastore-sql: %s", err)
	}
	out := &datastore.FederationRelationship{
		TrustDomain: trustDomain, BundleEndpointURL: endpoint,
		BundleEndpointProfile: datastore.BundleEndpointType(relationship.BundleEndpointProfile),
	}
	switch out.BundleEndpointProfile {
	case datastore.BundleEndpointWeb:
	case datastore.BundleEndpointSPIFFE:
		if out.EndpointSPIFFEID, err = spiffeid.FromString(relationship.EndpointSpiffeId); err != nil {
			return nil, status.Errorf(codes.Unknown, "unable to parse bundle endpoint SPIFFE ID: %s", err)
		}
	default:
		return nil, status.Errorf(codes.Unknown,
			"unknown bundle endpoint profile type: %q", relationship.BundleEndpointProfile)
	}
	out.TrustDomainBundle, err = bundleOut(relationship.TrustDomainBundle)
	return out, err
}

// CA journals.

func journalIn(journal *datastore.CAJournal) *spirev1.CAJournal {
	return &spirev1.CAJournal{
		Id: uint64(journal.ID), ActiveX509AuthorityId: journal.ActiveX509AuthorityID, Data: bytes.Clone(journal.Data),
	}
}

func journalOut(journal *spirev1.CAJournal) (*datastore.CAJournal, error) {
	if journal == nil {
		return nil, nil
	}
	id, err := number(journal.Id)
	if err != nil {
		return nil, err
	}
	return &datastore.CAJournal{
		ID: id, ActiveX509AuthorityID: journal.ActiveX509AuthorityId, Data: journal.Data,
	}, nil
}

// number is an id as SPIRE has it, which is narrower on some machines.
func number(id uint64) (uint, error) {
	if id > math.MaxUint {
		return 0, status.Error(codes.Internal, fmt.Sprintf("number %d does not fit this machine", id))
	}
	return uint(id), nil
}
