"""The shapes of real services. `ALL` is what the suites run over."""

from tests.services.service import Service
from tests.services.shapes.cursors import GraphQL, HubSpot, Slack, Stripe, Zendesk
from tests.services.shapes.links import GitHub, Shopify
from tests.services.shapes.lists import Inventory, Orders, Rates, Stations
from tests.services.shapes.urls import OData, Salesforce

ALL: tuple[type[Service], ...] = (
    GitHub, Stripe, Shopify, Slack, Salesforce, Zendesk, HubSpot, GraphQL, Stations, Rates, OData,
    Inventory, Orders,
)  # fmt: skip
