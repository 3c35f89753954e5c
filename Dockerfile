# Two images from one build:
#   services  the four services and the command line; no compiler, no migration tool, no secrets
#   setup     what runs once before them: secrets of a new fleet, migrations of its database
# Only BuildKit's built-in syntax is used: nothing but the base image is pulled.
ARG NODE_IMAGE=node:24-bookworm-slim

# package.json files alone, so that a change of source code does not install everything anew.
FROM ${NODE_IMAGE} AS manifests
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY tools/no-native tools/no-native
COPY apps apps
COPY libs libs
RUN find apps libs -type f ! -name package.json ! -path '*/bin/*' -delete && find apps libs -type d -empty -delete

FROM ${NODE_IMAGE} AS build
WORKDIR /app
ENV CI=true CHECKPOINT_DISABLE=1
COPY --from=manifests /app ./
# No package's install script is needed: sodium and QUIC come as prebuilt files, Prisma's engine as WebAssembly.
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts
COPY . .
RUN npm run build

# What runs: production dependencies, compiled code.
FROM build AS trimmed
# Optional packages stay, since QUIC is one; Node itself comes with the base image.
RUN --mount=type=cache,target=/root/.npm npm prune --omit=dev --ignore-scripts \
 && rm -rf node_modules/node-linux-* node_modules/.bin/node .cache \
 && node tools/container/trim.mjs

FROM trimmed AS trimmed-services
# The CLI of Prisma brings two hundred packages that no service loads.
RUN --mount=type=cache,target=/root/.npm npm uninstall prisma @prisma/schema-engine-wasm --no-save --omit=dev --ignore-scripts

FROM ${NODE_IMAGE} AS base
WORKDIR /app
ENV NODE_ENV=production CHECKPOINT_DISABLE=1
# Named volumes take owner and mode from these folders.
RUN for folder in invoice-svc session-svc relay-svc audit-svc launcher; do install -d -o node -g node -m 700 "/run/tallystick/secrets/$folder"; done \
 && install -d -o node -g node -m 700 /run/tallystick/migrate \
 && install -d -o node -g node -m 755 /run/tallystick/nats /run/tallystick/postgres /run/tallystick/grafana

FROM base AS setup
COPY --from=trimmed /app/package.json ./
COPY --from=trimmed /app/node_modules node_modules
COPY --from=trimmed /app/libs libs
COPY prisma prisma
COPY tools/paths.ts tools/
COPY tools/container tools/container
COPY tools/prisma tools/prisma
COPY tools/secrets tools/secrets
COPY tools/postgres/scram.ts tools/postgres/
USER node
CMD ["node", "tools/container/prepare.ts", "prepare"]

FROM base AS services
COPY --from=trimmed-services /app/package.json ./
COPY --from=trimmed-services /app/node_modules node_modules
COPY --from=trimmed-services /app/libs libs
COPY --from=trimmed-services /app/apps apps
COPY tools/container/healthy.mjs tools/container/
USER node
EXPOSE 9464
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 CMD ["node", "tools/container/healthy.mjs"]
CMD ["node", "apps/invoice-svc/dist/main.js"]
