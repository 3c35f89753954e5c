-- Rights of audit-svc's login role, one line per table, no more than its code uses. Applied after every migration;
-- idempotent. Leaves, tile nodes and checkpoints can be added and read, nothing else. SELECT … FOR UPDATE needs UPDATE.
GRANT USAGE ON SCHEMA audit TO :role;

GRANT SELECT, INSERT ON audit.audit_leaf TO :role;
GRANT SELECT, INSERT ON audit.audit_tile_node TO :role;
GRANT SELECT, INSERT ON audit.audit_checkpoint TO :role;
GRANT SELECT, UPDATE ON audit.audit_head TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON audit.audit_outbox TO :role;

GRANT USAGE ON SEQUENCE audit.audit_outbox_id_seq TO :role;
