-- What the login role of invoice-svc may do. Idempotent; applied after the migrations, by the owner of the tables.
GRANT USAGE ON SCHEMA "invoice" TO :role;

-- Kept for good: no DELETE.
GRANT SELECT, INSERT, UPDATE ON "invoice"."peer" TO :role;
GRANT SELECT, INSERT ON "invoice"."consent" TO :role;
GRANT UPDATE ("withdrawn_at") ON "invoice"."consent" TO :role;
GRANT SELECT, INSERT, UPDATE ON "invoice"."document" TO :role;
GRANT SELECT, INSERT, UPDATE ON "invoice"."number_series" TO :role;
GRANT SELECT, INSERT, UPDATE ON "invoice"."share" TO :role;
GRANT SELECT, INSERT, UPDATE ON "invoice"."message" TO :role;
GRANT SELECT, INSERT ON "invoice"."inbox" TO :role;
GRANT UPDATE ("state", "decided_at") ON "invoice"."inbox" TO :role;
GRANT SELECT, INSERT ON "invoice"."inbound" TO :role;
-- A receipt that the peer's relay refused goes out under another message id.
GRANT UPDATE ("receipt_message_id") ON "invoice"."inbound" TO :role;
GRANT SELECT, INSERT ON "invoice"."inbound_void" TO :role;
GRANT SELECT, INSERT ON "invoice"."verdict" TO :role;
GRANT UPDATE ("statement", "seq") ON "invoice"."verdict" TO :role;
GRANT SELECT, INSERT, UPDATE ON "invoice"."sharing_event" TO :role;
GRANT SELECT, INSERT ON "invoice"."peer_proof" TO :role;

-- Of passing use: swept.
GRANT SELECT, INSERT, UPDATE, DELETE ON "invoice"."idempotency" TO :role;
GRANT SELECT, INSERT, DELETE ON "invoice"."statement_nonce" TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON "invoice"."rate_window" TO :role;
GRANT SELECT, INSERT, DELETE ON "invoice"."change_event" TO :role;
GRANT USAGE ON SEQUENCE "invoice"."change_event_id_seq" TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON "invoice"."audit_outbox" TO :role;
GRANT USAGE ON SEQUENCE "invoice"."audit_outbox_id_seq" TO :role;
