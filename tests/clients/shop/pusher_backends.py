"""How items are told; drf_model_pusher looks for this file."""

from drf_model_pusher.backends import PusherBackend

from shop.serializers import ItemSerializer


class ItemPusherBackend(PusherBackend):
    serializer_class = ItemSerializer
